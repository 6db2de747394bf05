"""The loop that answers one federation's tasks: for who the site is now, and for no other."""

from __future__ import annotations

import shutil
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hospitium.engines.hub.connection import Connection
from hospitium.engines.hub.pace import Pace
from hospitium.engines.hub.site_loop import SiteKeys, SiteLoop
from hospitium.engines.hub.site_work import TEMPORARY, WRITTEN
from hospitium.engines.hub.transport import WORK, connection_of
from hospitium.engines.site_worker import SITE_LOG, answer_request
from hospitium.engines.workers import WorkerDiedError, WorkerPool
from hospitium.errors import EngineError
from hospitium.operations.site_rules import SiteRules
from hospitium.operations.site_watching import watch_of
from hospitium.site.condition import Condition
from hospitium.site.departures import LOG
from hospitium.site.egress import Egress
from hospitium.site.footprint import peak_memory_bytes
from hospitium.site.isolation import Limits, View
from hospitium.site.membership import Membership
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.wire.signing import VerifyKey


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """Everything with which a loop is started; where it changes, another loop takes over."""

    site_id: str
    keys: SiteKeys = field(compare=False)
    public_keys: tuple[str, ...]
    connection: Connection
    limits: Limits


class Answering:
    """Has the tasks of one federation answered, in a process without network and keys.

    Args:
        home: This installation.
        place: Its place in the federation.
        folder: Where answers and models are kept.
        rules: What the site's policy says.
        condition: Told how it goes.
        pace: How fast the line may be used.
        egress: The way out, with the record of what left.
        say: Told in a line when a task came, and what was done and sent.
    """

    def __init__(
        self,
        home: Home,
        place: Membership,
        *,
        folder: Path,
        rules: SiteRules,
        condition: Condition,
        pace: Pace,
        egress: Egress,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._home = home
        self._place = place
        self._folder = folder
        self._rules = rules
        self._condition = condition
        self._pace = pace
        self._egress = egress
        self._say = say
        self._identity: _Identity | None = None
        self._loop: SiteLoop | None = None
        self._pool: WorkerPool | None = None
        self._thread: threading.Thread | None = None

    def follow(self) -> bool:
        """Have a loop run for who this site is now; return whether that changed.

        Raises:
            HospitiumError: Keys, lists or policy cannot be read: then none runs.
        """
        wanted = self._wanted()
        is_alive = self._thread is not None and self._thread.is_alive()
        if wanted == self._identity and (is_alive or wanted is None):
            return False
        self.end()
        if wanted is not None:
            loop = self._new_loop(wanted)
            self._thread = threading.Thread(
                target=self._run, args=(loop,), name=f"{wanted.site_id}-loop", daemon=True
            )
            self._thread.start()
        return True

    def once(self) -> int:
        """Answer what is open now, and return how many tasks were taken up."""
        wanted = self._wanted()
        return 0 if wanted is None else self._new_loop(wanted).run_once()

    def look(self) -> None:
        """Note how the training process is cut off, and what it must not see or change."""
        if self._pool is not None:
            self._condition.note(isolation=self._pool.isolation())
            self._pool.show(view_of(self._home, self._folder))

    def peak_memory_bytes(self) -> int:
        """Return the most that this process and its training process held, together."""
        trained = 0 if self._pool is None else self._pool.peak_memory_bytes()
        return peak_memory_bytes() + trained

    def stop(self) -> None:
        """End what waits; `end` does the rest."""
        if self._loop is not None:
            self._loop.stop()

    def end(self) -> None:
        """Stop answering, and leave no process behind; safe to call twice."""
        self.stop()
        if self._pool is not None:
            self._pool.close()
        if self._thread is not None:
            self._thread.join(timeout=20)
        self._loop = self._pool = self._thread = self._identity = None

    def _wanted(self) -> _Identity | None:
        """Return with what a loop is to run now; None while this site is no member."""
        place = self._place
        if place.has_left or place.chain.current() is None or place.own_row() is None:
            return None
        limits = place.policy().limits
        coordinator = place.members().coordinator_keys[0]
        keys = SiteKeys(
            request=place.request_key(),
            signing=place.signing_key(),
            coordinator=VerifyKey.from_hex(coordinator),
        )
        return _Identity(
            site_id=place.settings.site_id,
            keys=keys,
            public_keys=(keys.request.public.hex(), keys.signing.public.hex(), coordinator),
            connection=connection_of(place, mbit_per_s=limits.mbit_per_s),
            limits=Limits(memory_gb=limits.memory_gb),
        )

    def _new_loop(self, identity: _Identity) -> SiteLoop:
        self._identity = identity
        self._pool = isolated_pool(
            self._home, identity.connection, folder=self._folder, limits=identity.limits
        )
        self._loop = SiteLoop(
            site_id=identity.site_id,
            keys=identity.keys,
            connection=identity.connection,
            folder=self._folder,
            pool=self._pool,
            approved=self._rules.approved,
            rules=self._rules.for_loop(),
            condition=self._condition,
            pace=self._pace,
            egress=self._egress,
            say=self._say,
            watch=watch_of(self._place, self._folder, coordinator=identity.keys.coordinator),
        )
        return self._loop

    def _run(self, loop: SiteLoop) -> None:
        """Run in a thread: find out whether training is cut off, then answer."""
        assert self._pool is not None
        try:
            self._condition.note(isolation=self._pool.prepare())
        except (EngineError, WorkerDiedError, TimeoutError, OSError) as error:
            self._condition.failed(error)
        loop.run()


def isolated_pool(
    home: Home,
    connection: Connection,
    *,
    folder: Path | None = None,
    limits: Limits | None = None,
) -> WorkerPool:
    """Return a pool of one worker without network and keys, which tries to reach what it must not.

    Args:
        home: This installation; see `view_of`.
        connection: Whom the worker must not reach; it is told no login.
        folder: A federation's folder of answers and models, where it writes; None: nowhere.
        limits: What it may use.
    """
    if folder is not None:
        _make_writable(folder)
    proxy = connection.proxy or urllib.request.getproxies().get("https", "")
    addresses = [connection.url, *connection.others, *([proxy] if proxy else [])]
    return WorkerPool(
        answer_request,
        num_workers=1,
        isolated=True,
        limits=limits,
        addresses=[_without_login(address) for address in addresses],
        view=view_of(home, folder),
    )


def view_of(home: Home, folder: Path | None = None) -> View:
    """Return how a training process finds this machine.

    It sees no keys and no record of what left. It can change nothing but what it is there to write:
    the change in the outbox, the state of a run, what is temporary, and the log for the site's own
    staff.
    """
    places = home.folder / "site" / "federations"
    writable = [] if folder is None else [folder / name for name in (*WRITTEN, SITE_LOG)]
    return View(
        hidden=tuple(sorted([*places.glob("*/keys"), *places.glob(f"*/{LOG}")])),
        protected=(home.folder, *sorted(places.glob("*/")), *sorted(places.glob(f"*/{WORK}/"))),
        writable=tuple(writable),
        temporary=None if folder is None else folder / TEMPORARY,
    )


def _make_writable(folder: Path) -> None:
    """Make what a training process writes, and open it again, whatever an earlier one closed."""
    with durable.storage_errors(folder):
        with suppress(RecursionError):
            shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
        for name in WRITTEN:
            durable.make_folder(folder / name).chmod(0o700)
        (folder / SITE_LOG).touch()


def _without_login(address: str) -> str:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
