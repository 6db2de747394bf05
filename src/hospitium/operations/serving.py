"""``coordinator up``: the hub of every federation, and every unfinished run between machines.

Other commands only change the home folder: a new federation, plan, member list or run is seen here
within a second. Whatever ends this process, the next one goes on to the same bits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hospitium.errors import HospitiumError, RunBusyError, UsageError
from hospitium.operations.attempts import FIRST_PAUSE_S, keep_trying
from hospitium.operations.auditing import sign_log
from hospitium.operations.halting import wish_of
from hospitium.operations.houses import House, Houses, server_of
from hospitium.operations.networked import OverTheHub
from hospitium.operations.progress import Say
from hospitium.operations.server_files import serving_folder
from hospitium.state.home import Home, locked
from hospitium.state.record import RunRecord

LOOK_S = 0.25
FIRST_AGAIN_S, AGAIN_S = 0.5, 30.0
"""When a run whose ledger could not be read is looked at again: it may be just being begun."""

END_S = 30.0


def serve(
    home: Home,
    *,
    host: str = "",
    port: int | None = None,
    say: Say,
    stop: threading.Event,
    first_pause_s: float = FIRST_PAUSE_S,
) -> None:
    """Serve all federations of this installation and work on their runs until ``stop`` is set.

    Args:
        home: This installation.
        host: Address to listen at; "" for all.
        port: Port to listen at; None takes that of the first address, 0 a free one.
        say: Where progress goes; the first event is ``serving``, with the port.
        stop: Ends it; so does an interruption.
        first_pause_s: See `keep_trying`.

    Raises:
        UsageError: There is no federation, or its port is not free.
        RunBusyError: Another process serves this home.
    """
    with _alone(home):
        houses = Houses(home, say=say)
        houses.look()
        if not houses.found:
            raise UsageError(
                f"This installation ({home.folder}) coordinates no federation yet. Nothing was "
                "started. Begin one with `hospitium coordinator init NAME --address URL`; if there "
                "is one, HOSPITIUM_HOME or --home must name its folder."
            )
        server = server_of(home, houses, host=host, port=port)
        runs = _Runs(home, houses, say=say, first_pause_s=first_pause_s)
        try:
            server.start()
            names = ", ".join(sorted(houses.found))
            addresses = ", ".join(houses.addresses())
            text = f"Serving {names} at port {server.port}, for {addresses}"
            say({"kind": "serving", "text": text, "port": server.port})
            while not stop.wait(LOOK_S):
                houses.look()
                runs.look()
        finally:
            runs.stop()
            server.stop()
            houses.close()


class _Runs:
    """Every unfinished run between machines, each in a thread."""

    def __init__(self, home: Home, houses: Houses, *, say: Say, first_pause_s: float) -> None:
        self._home = home
        self._houses = houses
        self._say = say
        self._first_pause_s = first_pause_s
        self._stop = threading.Event()
        self._known: dict[str, str] = {}
        self._again: dict[str, tuple[float, float]] = {}
        self._working: dict[str, _Work] = {}

    def look(self) -> None:
        """Take up what is new or to go on, and end what is to be stopped."""
        for run_id, work in list(self._working.items()):
            if wish_of(work.folder) == "stopped":
                work.end()
            if not work.thread.is_alive():
                del self._working[run_id]
        for run_id in self._home.runs():
            name = self._federation(run_id)
            if not name or name not in self._houses.found or run_id in self._working:
                continue
            folder = self._home.run(run_id)
            if not wish_of(folder):
                self._working[run_id] = self._begin(folder, self._houses.found[name])

    def stop(self) -> None:
        """End every thread; each run can be resumed."""
        self._stop.set()
        for work in self._working.values():
            work.end()
        for work in self._working.values():
            work.thread.join(timeout=END_S)

    def _begin(self, folder: Path, house: House) -> _Work:
        work = _Work(folder, lambda: OverTheHub(house.backend, desk=house.desk, key=house.key))
        work.thread = threading.Thread(
            target=self._work, args=(work, house), name=f"run-{folder.name}", daemon=True
        )
        work.thread.start()
        return work

    def _work(self, work: _Work, house: House) -> None:
        is_done = keep_trying(
            work.folder,
            engines=work.engines,
            desk=house.desk,
            say=self._say,
            stop=self._stop,
            first_pause_s=self._first_pause_s,
        )
        self._sign(work.folder, house)
        if is_done:
            self._known[work.folder.name] = ""
            name = work.folder.name
            text = f"{name}: finished. What came out: `hospitium run show {name}`"
            self._say({"kind": "news", "text": text})

    def _sign(self, folder: Path, house: House) -> None:
        """Sign the run's log as it is when work on it ends; what cannot be read was said before."""
        with suppress(HospitiumError):
            sign_log(folder, key=house.key, federation=house.desk.folder.name)

    def _federation(self, run_id: str) -> str:
        """Return the federation of an unfinished run between machines; "" for any other."""
        if run_id in self._known:
            return self._known[run_id]
        not_before, pause_s = self._again.get(run_id, (0.0, FIRST_AGAIN_S))
        if time.monotonic() < not_before:
            return ""
        try:
            ledger = RunRecord(self._home.run(run_id))
        except HospitiumError:
            self._again[run_id] = time.monotonic() + pause_s, min(2 * pause_s, AGAIN_S)
            return ""
        try:
            report = Path(str(ledger.facts.get("out", ""))) / "report.json"
            is_done = ledger.is_finished and report.is_file()
            is_ours = not ledger.facts.get("canary_of") and not is_done
            self._known[run_id] = str(ledger.facts.get("federation", "")) if is_ours else ""
        finally:
            ledger.close()
        return self._known[run_id]


class _Work:
    """One run that is worked on."""

    thread: threading.Thread

    def __init__(self, folder: Path, make: Callable[[], OverTheHub]) -> None:
        self.folder = folder
        self._make = make
        self._now: OverTheHub | None = None
        self._is_over = False
        self._lock = threading.Lock()

    def engines(self) -> OverTheHub:
        """Return what opens the engine of the next attempt."""
        with self._lock:
            self._now = self._make()
            if self._is_over:
                self._now.stop()
            return self._now

    def end(self) -> None:
        """End the work at once; what was accepted is kept."""
        with self._lock:
            self._is_over = True
            if self._now is not None:
                self._now.stop()


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the one place from which an installation is served."""
    try:
        with locked(serving_folder(home)):
            yield
    except RunBusyError as error:
        raise RunBusyError(
            f"{home.folder}: another `hospitium coordinator up` serves this home. Nothing was "
            "started. Stop that one first, or leave it to its work."
        ) from error
