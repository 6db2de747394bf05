"""One coordinator with idle sites, in a process of its own; prints what it took as one JSON line.

``python -m bench.coordinator NUM_SITES NUM_VALUES NUM_ROUNDS [--floor]``. Memory is ``VmHWM``: the
most that was ever resident of this process, mapped files and libraries counted, workers not.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import idle_site, model
from bench.rows import union_s
from bench.stopwatch import Stopwatch
from hospitium import algorithms, federation
from hospitium.engines.in_process import InProcess, LocalSite
from hospitium.engines.workers import WorkerPool
from hospitium.plan import Plan
from hospitium.plan.schema import RoundsSection
from hospitium.state.ledger import RunLedger
from hospitium.types import Answer, Params, Result, Seat, Task


def measure(
    *, num_sites: int, num_values: int, num_rounds: int, with_floor: bool = False
) -> dict[str, Any]:
    """Run a coordinator in a process of its own and return what it says (`main`)."""
    command = [sys.executable, "-m", "bench.coordinator"]
    command += [str(number) for number in (num_sites, num_values, num_rounds)]
    command += ["--floor"] if with_floor else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run some rounds and print peak memory, and of each round its time and its serialisation."""
    num_sites, num_values, num_rounds = (int(text) for text in sys.argv[1:4])
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder:
        rounds = _Rounds(Path(folder), num_sites=num_sites, with_floor="--floor" in sys.argv)
        if num_rounds:
            _run(Path(folder), rounds, num_values=num_values, num_rounds=num_rounds)
        print(json.dumps({"peak_mb": peak_mb(), "rounds": rounds.measured}))


class _Rounds:
    """Progress that takes times: a round is from the end of the one before to its own end."""

    def __init__(self, folder: Path, *, num_sites: int, with_floor: bool) -> None:
        self.measured: list[dict[str, float]] = []
        self.watch = Stopwatch()
        self._sites = [folder / f"site-{index}" for index in range(num_sites)]
        self._with_floor = with_floor
        self._began = time.monotonic()

    def round_opened(self, plan: object, task: Task, site_ids: object) -> None:
        """A round began before this: with the digest of its params."""

    def answer(self, task: Task, answer: Answer) -> None:
        """An answer is in time or the measurement is worth nothing."""
        assert hasattr(answer, "delta"), answer

    def round_closed(self, plan: object, task: Task, result: Result) -> None:
        """Take the time of this round; then that of its floor, outside of any round."""
        ended = time.monotonic()
        intervals = [(tuple(item)) for item in self.watch.intervals]
        at_sites = [item for site in self._sites for item in _last_times(site)]
        kinds = {
            f"{where}_{kind}_s": sum(end - begin for what, begin, end in items if what == kind)
            for where, items in (("here", intervals), ("sites", at_sites))
            for kind in ("hash", "read", "write")
        }
        both = [(begin, end) for _, begin, end in [*intervals, *at_sites]]
        serial_s = union_s(both, begin=self._began, end=ended)
        row = {"round_s": ended - self._began, "serialisation_s": serial_s, **kinds}
        if self._with_floor:
            row["floor_s"] = _floor_s(self._sites, task.params)
        self.measured.append(row)
        self.watch.intervals.clear()
        self._began = time.monotonic()


def _run(folder: Path, rounds: _Rounds, *, num_values: int, num_rounds: int) -> None:
    seats = [Seat(site_id=site.name, num_cases=100) for site in rounds._sites]
    plan = Plan(rounds=RoundsSection(count=num_rounds, quorum=len(seats), deadline_s=300.0))
    RunLedger.create(folder / "run", run_id="bench", plan=plan, seats=seats, facts={})
    sites = [
        LocalSite(site_id=site.name, cases=site, folder=site, num_cases=100)
        for site in rounds._sites
    ]
    for site in sites:
        site.folder.mkdir()
    ledger = RunLedger(folder / "run")
    pool = WorkerPool(idle_site.answer_request)
    engine = InProcess(plan, sites=sites, store=ledger.store, pool=pool)
    manifest = model.manifest_of_size(num_values)
    algorithm = algorithms.build(
        plan,
        run_id="bench",
        seats=seats,
        first_params=lambda: model.draw(manifest, seed=7, scale=0.1),
    )
    try:
        with rounds.watch.watching():
            federation.run(plan, algorithm, engine, ledger, rounds)
    finally:
        pool.close()
        ledger.close()


def _last_times(site: Path) -> list[tuple[str, float, float]]:
    """Return when a site serialised in its last answer."""
    return [
        tuple(item) for item in json.loads((site / idle_site.TIMES).read_text().split("\n")[-2])
    ]


def _floor_s(sites: list[Path], params: Params) -> float:
    """Return the time to write, sync and read the same bytes, once for each site and once down."""
    arrays = [array.reshape(-1).data for array in params.values()]
    path = sites[0] / "floor"
    started = time.monotonic()
    for _ in range(len(sites) + 1):
        with path.open("wb") as file:
            file.writelines(arrays)
            file.flush()
            os.fsync(file.fileno())
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    took_s = time.monotonic() - started
    path.unlink()
    return took_s


def peak_mb() -> float:
    """Return the most that was resident of this process; where Linux's file is missing, nearly."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with what the parent held when it forked
        lines = status.read_text().splitlines()
        return sum(int(line.split()[1]) * 1024e-6 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
