"""A site's agent: take a task, ask what was agreed, answer it, keep the answer until its receipt.

Nothing of a task but its plan's digest is read before the site's consent was asked. An answer is on
disk before its first byte leaves. A task that is asked again is answered with the same bytes; it is
never trained again. What comes outside the site's hours, or while it has paused, is left at the hub
and taken later, if it is open still.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hospitium.engines.hub.agreed import Approved, LaterError, agreed, task_of
from hospitium.engines.hub.client import Connection, HubClient, StoppedError, Waiting
from hospitium.engines.hub.handing_in import HandingIn
from hospitium.engines.hub.messages import Ask
from hospitium.engines.hub.pace import Pace
from hospitium.engines.hub.site_work import Rules, Workbench, error_words
from hospitium.engines.hub.telling import Telling
from hospitium.engines.hub.watching import Seen, Watch
from hospitium.engines.hub.witness import Witness, public_words
from hospitium.engines.site_worker import SITE_LOG
from hospitium.engines.workers import WorkerPool
from hospitium.errors import (
    EngineError,
    HospitiumError,
    HubError,
    SiteError,
    TrustError,
    UpdateError,
)
from hospitium.site.condition import Condition
from hospitium.site.egress import Egress
from hospitium.site.record import local_egress
from hospitium.state import durable
from hospitium.wire.signing import SigningKey, VerifyKey

__all__ = ["MAX_WAIT_S", "Approved", "Rules", "SiteKeys", "SiteLoop"]

MAX_WAIT_S = 50
CLOSED_S = 1.0
"""How often a site that takes no tasks looks whether it may."""
LATER_S = 5.0
"""How often a task that came at the wrong time is looked at again."""
UNKNOWN_S = 60.0
"""Pause after the hub said that it does not know this site."""


@dataclass(frozen=True, kw_only=True)
class SiteKeys:
    """A site's two keys, and the coordinator's, which came with the member list."""

    request: SigningKey
    signing: SigningKey
    coordinator: VerifyKey


class SiteLoop:
    """One site's agent, for one coordinator; `run` lasts until it is stopped.

    Args:
        site_id: What this site is called.
        keys: Its keys.
        connection: How to reach the hub.
        folder: Its own state: answers, models, ``site.log``.
        pool: Where tasks are answered, in processes without keys.
        approved: Says what was agreed under a plan's digest; None, or a `SiteError` with one of
            `REFUSALS`: nothing; the task is refused.
        rules: What the site's policy says about when and how much.
        condition: Told how it goes.
        pace: How fast the line may be used.
        wait_s: Length of a long poll.
        say: Told in a line when a task came, and what was done and sent; it stays at the site.
        egress: The way out, with the record of what left; None: a record in the folder.
        watch: What this site saw of the coordinator's logs; None in a simulation, without a log.
    """

    def __init__(
        self,
        *,
        site_id: str,
        keys: SiteKeys,
        connection: Connection,
        folder: Path,
        pool: WorkerPool,
        approved: Callable[[str], Approved | None],
        rules: Rules | None = None,
        condition: Condition | None = None,
        pace: Pace | None = None,
        wait_s: int = MAX_WAIT_S,
        say: Callable[[str], None] = lambda text: None,
        egress: Egress | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._site_id = site_id
        self._keys = keys
        self._connection = connection
        self._folder = durable.make_folder(folder)
        self._approved = approved
        self._rules = rules or Rules()
        self._condition = condition or Condition(folder)
        egress = egress or local_egress(
            folder, site_id=site_id, key=keys.signing, destination=connection.url
        )
        self._witness = Witness(watch, egress=egress, key=keys.signing)
        self._pace = pace or Pace()
        self._wait_s = wait_s
        self._telling = Telling(say)
        self._stop = threading.Event()
        self._bench = Workbench(
            site_id=site_id, folder=folder, pool=pool, rules=self._rules, stop=self._stop
        )
        self._handing_in = HandingIn(
            site_id=site_id,
            coordinator=keys.coordinator,
            egress=egress,
            witness=self._witness,
            answers=self._bench.answers,
            condition=self._condition,
            telling=self._telling,
            log=self._log,
        )
        self._asks: queue.Queue[tuple[int, Ask] | None] = queue.Queue()
        self._in_line: set[int] = set()
        self._clients: list[HubClient] = []

    def run(self) -> None:
        """Poll and answer until `stop`; the network may come and go."""
        worker = threading.Thread(target=self._work, name=f"{self._site_id}-work", daemon=True)
        worker.start()
        client = self._client()
        try:
            with suppress(StoppedError):
                self._poll(client)
        finally:
            client.close()
            self._asks.put(None)
            worker.join()

    def run_once(self) -> int:
        """Answer what is open now, and return how many tasks were taken up."""
        client = self._client()
        try:
            if self._rules.closed():
                return 0
            self._take(client.tasks(after=0, wait_s=0))
            taken = len(self._in_line)
            self._asks.put(None)
            self._answer_all(client)
            return taken
        finally:
            client.close()

    def stop(self) -> None:
        """End `run` soon; what is under way is kept on disk and goes on at the next start."""
        self._stop.set()
        for client in self._clients:
            client.interrupt()

    # --- asking for tasks -----------------------------------------------------------------------

    def _poll(self, client: HubClient) -> None:
        """Put each task in line, while the site takes any."""
        after = 0
        while not self._stop.is_set():
            if self._rules.closed():
                after = 0  # what is left at the hub comes again
                self._stop.wait(CLOSED_S)
                continue
            try:
                waiting = client.tasks(after=after, wait_s=self._wait_s)
            except HubError as error:
                self._refused(error)
                continue
            self._condition.note(reachable=True)
            self._take(waiting)
            after = max((task.n for task in waiting), default=0)  # now and then from the start

    def _take(self, waiting: list[Waiting]) -> None:
        """Put those tasks in line that the coordinator signed for this site."""
        for task in waiting:
            if task.n in self._in_line:
                continue
            try:
                ask = Ask.opened(task.envelope, key=self._keys.coordinator, site_id=self._site_id)
            except UpdateError as error:
                self._condition.failed(error, decoding=False)
                self._log(f"a task was refused ({error.reason}): {error}")
                continue
            self._condition.note(decoding=True)
            self._in_line.add(task.n)
            self._asks.put((task.n, ask))

    def _refused(self, error: HubError) -> None:
        """Wait after a refusal: a site that is not known does not come back at once."""
        self._condition.failed(error, reachable=False)
        self._log(f"the hub refused: {error}")
        pause_s = UNKNOWN_S if error.status == 401 else self._connection.longest_pause_s
        self._stop.wait(pause_s)

    # --- answering ------------------------------------------------------------------------------

    def _work(self) -> None:
        client = self._client()
        try:
            self._answer_all(client)
        finally:
            client.close()

    def _answer_all(self, client: HubClient) -> None:
        """Answer one task after the other; whatever goes wrong with one, the next is answered."""
        later: dict[int, Ask] = {}
        while not self._stop.is_set():
            try:
                item = self._asks.get(timeout=LATER_S if later else None)
                if item is None:
                    return
                if self._is_left(client, item[1]):
                    later[item[0]] = item[1]
                else:
                    self._in_line.discard(item[0])
            except queue.Empty:
                self._look_again(client, later)
            except (StoppedError, EngineError):
                return

    def _is_left(self, client: HubClient, ask: Ask) -> bool:
        """Answer a task, and return whether it was left for later."""
        try:
            self._answer(client, ask)
        except LaterError:
            return True
        except EngineError:
            raise
        except (HospitiumError, OSError) as error:
            self._condition.failed(error)
            self._log(f"a task was not answered: {type(error).__name__}: {error}")
        return False

    def _look_again(self, client: HubClient, later: dict[int, Ask]) -> None:
        """Put in line what was left for later, if it is open at the hub still."""
        if self._rules.closed():
            return
        try:
            open_now = {task.n for task in client.tasks(after=0, wait_s=0)}
        except HubError as error:
            self._refused(error)
            return
        for n, ask in later.items():
            if n in open_now:
                self._asks.put((n, ask))
            else:
                self._in_line.discard(n)
        later.clear()

    def _answer(self, client: HubClient, ask: Ask) -> None:
        """Answer a task from disk, or by working, within what was agreed; then hand it in."""
        if self._rules.closed():
            raise LaterError
        seen: Seen | None = None
        try:
            approved = agreed(ask, self._approved)
            task = task_of(ask)
            self._condition.note(round_number=task.round_number)
            seen = self._witness.look(ask, task, approved.plan)
            kept = self._bench.answers.find(ask.task, run_key=ask.run_key)
            self._telling.begun(task, approved, kept)
            if kept is None:
                self._condition.note(state="training")
                kept = self._bench.make(client, ask, task, approved)
                agreed(ask, self._approved, is_done=True)
        except SiteError as error:
            self._condition.failed(error)
            self._log(
                f"a task was not answered: {error.public}\n{error.detail or error.__cause__ or ''}"
            )
            kept = error_words(error.public)
        except TrustError as error:
            self._condition.failed(error)
            self._log(f"a task was not answered ({error.reason}): {error}")
            kept = error_words(public_words(error))
        finally:
            self._condition.note(state="waiting")
        self._handing_in.hand_in(client, ask, kept, seen)

    def _client(self) -> HubClient:
        client = HubClient(
            self._connection, key=self._keys.request, stop=self._stop, log=self._log,
            pace=self._pace,
        )  # fmt: skip
        self._clients.append(client)
        return client

    def _log(self, text: str) -> None:
        """Tell the site's own staff."""
        with suppress(OSError), (self._folder / SITE_LOG).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
