"""What runs on the simulated machines: the real coordinator with its hub, and the real site agents.

Replaced are the process that trains, by a pure function of base digest, site and round, and the
framework in front of the routes (not in the seeds that go through the whole application).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plain_hub
import site_lies as lies
from carried import NAME
from machines_of_simulation import Machine, Process
from simulated_federation import APPROVER, RUN, Template
from virtual_net import Http, Network
from virtual_threads import Future
from virtual_time import BEGIN_S, BEGIN_UTC_S, KilledError, World

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.site_worker import answer_request
from hospitium.errors import HospitiumError
from hospitium.operations import approving, attempts
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.held_updates import decide, review_of
from hospitium.operations.networked import OverTheHub
from hospitium.operations.site_attending import Attendant
from hospitium.site.membership import Membership, membership
from hospitium.state.home import Home
from hospitium.wire import blob
from hospitium.wire.envelope import decode_update


@dataclass(kw_only=True)
class Stage:
    """One world with everything in it.

    Attributes:
        made: Of each honest or lying site, round and base digest: the changes that it made, by
            their digest.
        told: What the coordinator said, with the time.
    """

    here: World
    template: Template
    network: Network
    machines: dict[str, Machine] = field(default_factory=dict)
    serving: list[tuple[Process, Any]] = field(default_factory=list)
    liars: dict[str, str] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    deceived: set[str] = field(default_factory=set)
    made: dict[tuple[str, int, str], dict[str, Any]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    trained: int = 0
    is_finished: bool = False
    has_held: bool = False
    has_news: bool = False
    through_framework: bool = False

    # --- the coordinating centre --------------------------------------------------------------

    def centre(self, process: Process) -> None:
        """Serve and work on the run, as `coordinator up` does, until it is finished."""
        try:
            self._centre(process)
        except KilledError:
            raise
        except (HospitiumError, OSError) as error:
            self.say(process, f"ended: {type(error).__name__}: {error}")
            process.machine.die(down_s=10.0)

    def _centre(self, process: Process) -> None:
        home = Home(process.machine.folder)
        desk = existing(home, NAME)
        backend = LocalBackend(desk.folder / "hub")
        key, office = coordinator_key(desk), Office(desk)
        app = (
            Hub(backend, members=office.members, key=key, office=office).app
            if self.through_framework
            else plain_hub.hub_app(backend, key=key, office=office)
        )
        self.serving.append((process, app))
        self.here.spawn(process, lambda: self._review(process, home), "reviewer")
        stop = attempts.threading.Event()
        self.is_finished |= attempts.keep_trying(
            home.run(RUN),
            engines=lambda: OverTheHub(backend, desk=desk, key=key),
            desk=desk,
            say=lambda event: self.say(process, _words(event)),
            stop=stop,
        )

    def _review(self, process: Process, home: Home) -> None:
        """Have a person decide about updates that are held, once somebody said that some are."""
        here = self.here
        while True:
            here.sleep(here.between(20, 60, "review"))
            if not self.has_held:
                continue
            self.has_held = False
            with suppress(HospitiumError, OSError):
                for row in review_of(home, RUN)["updates"]:
                    if row["verdict"] == "held" and not row["decision"]:
                        decision = "released" if here.chance(0.5, "release") else "excluded"
                        decide(
                            home, RUN, site_id=row["site_id"], round_number=row["round"],
                            decision=decision, by="Ada Lovelace", reason="looked at",
                        )  # fmt: skip

    def servers(self) -> list[tuple[Process, Any]]:
        """Return who serves the hub now."""
        self.serving = [row for row in self.serving if not row[0].is_dead]
        return self.serving

    def say(self, process: Process, text: str) -> None:
        """Remember what was said."""
        self.has_held = self.has_held or "held" in text
        self.told.append(f"{self.here.now - BEGIN_S:9.2f} {process.name}: {text}")

    # --- a site -------------------------------------------------------------------------------

    def site(self, process: Process) -> None:
        """Attend and answer, as `site up` does."""
        try:
            home = Home(process.machine.folder)
            place = membership(home.folder, NAME)
            if self.has_news:
                self.here.spawn(process, lambda: self._people(process, home, place), "people")
            Attendant(home, place, say=lambda text: self.say(process, text)).run()
        except KilledError:
            raise
        except (HospitiumError, OSError) as error:
            self.say(process, f"ended: {type(error).__name__}: {error}")
            process.machine.die(down_s=10.0)

    def _people(self, process: Process, home: Home, place: Membership) -> None:
        """Look now and then, and approve again where the member list has changed."""
        here = self.here
        while True:
            here.sleep(here.between(30, 60, "people", process.name))
            with suppress(HospitiumError, OSError):
                self.approve_again(process, home, place)

    def approve_again(self, process: Process, home: Home, place: Membership) -> None:
        """Have a person approve once more, where the member list is another one by now."""
        digest = self.template.plan.digest
        standing = place.standing(digest)
        cases = place.cases(digest)
        if not standing or cases is None or place.is_withdrawn(digest) or place.own_row() is None:
            return
        if standing[-1].members_digest != place.members().digest:
            approving.approve(
                home, NAME, digest, approver=APPROVER, cases=cases, now=self.now(process),
                isolation="cut_off",
            )  # fmt: skip

    def now(self, process: Process) -> Any:
        """Return what the wall clock of a machine shows."""
        seconds = BEGIN_UTC_S + self.here.now - BEGIN_S + process.clock_offset_s
        return approving.datetime.fromtimestamp(seconds, approving.UTC)

    def pool(self, home: Home, connection: Any, **rest: Any) -> Pool:
        """Stand for `hospitium.operations.site_answering.isolated_pool`."""
        strand = self.here.current
        assert strand is not None
        return Pool(self, strand.node)

    def lenient(self, require: Callable[..., None]) -> Callable[..., None]:
        """Return the egress's checks without effect at a lying site: it took them out."""

        def call(*args: Any, **kwargs: Any) -> None:
            strand = self.here.current
            if strand is None or strand.node.name not in self.liars:
                require(*args, **kwargs)

        return call

    def open_http(self, connection: Any) -> Http:
        """Stand for `hospitium.engines.hub.connection.open_http`."""
        strand = self.here.current
        assert strand is not None
        return Http(self.network, strand.node)


class Pool:
    """Stands for a site's `WorkerPool`: the real worker's code in a strand, with a pure trainer."""

    def __init__(self, stage: Stage, process: Process) -> None:
        self._stage = stage
        self._process = process

    def prepare(self) -> str:
        """Say that training is cut off."""
        return "cut_off"

    isolation = prepare

    def show(self, view: object) -> None:
        """Nothing is to be seen."""

    def peak_memory_bytes(self) -> int:
        """Nothing was measured."""
        return 0

    def close(self) -> None:
        """Nothing is open."""

    def submit(self, request: bytes, *, deadline_s: float, must_be_cut_off: bool = False) -> Future:
        """Answer a request after a while."""
        future = Future()
        here, name = self._stage.here, self._process.name

        def work() -> None:
            needed_s = here.between(1, 4, "train", name) * self._stage.slow.get(name, 1.0)
            self._process.machine.point("before training")
            here.sleep(min(needed_s, deadline_s))
            if needed_s >= deadline_s:
                future.set_exception(TimeoutError())
                return
            reply = answer_request(request)
            self._process.machine.point("after training")
            if kind := self._stage.liars.get(name):
                reply = lies.told(kind, reply, json.loads(request))
            self._remember(reply, lies.written(json.loads(request)))
            future.set_result(reply)

        here.spawn(self._process, work, "train")
        return future

    def _remember(self, reply: bytes, file: Path | None) -> None:
        """Note the change that a site made: what it may truly send."""
        self._stage.trained += 1
        fields = json.loads(reply)
        if "envelope" not in fields:
            return
        with suppress(HospitiumError):
            update, _ = decode_update(base64.b64decode(fields["envelope"]))
            if file is not None:
                note(self._stage, self._process.name, update, file)


def note(stage: Stage, site_id: str, update: Any, file: Path) -> None:
    """Remember a change by the site that made it."""
    place = (site_id, update.round_number, update.base_digest)
    made = {name: array.copy() for name, array in blob.read(file).items()}
    stage.made.setdefault(place, {})[blob.digest_of(made)] = made


def no_lock(folder: Path) -> Any:
    """Stand for `hospitium.state.home.locked` where a file system does not keep locks."""
    return nullcontext()


def _words(event: Mapping[str, Any]) -> str:
    """Return what the coordinator said as one line."""
    return " ".join(str(value) for value in event.values())[:400]
