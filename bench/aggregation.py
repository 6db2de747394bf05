"""What an exact sum of 20 updates costs, gate included, beside a plain float sum of them.

Both sides get each update as the coordinator does: as a mapped file in the page cache. The floor is
the plainest fast loop there is: ``np.multiply(x, w, out=tmp); acc += tmp``, float32, in place, one
core, buffers made beforehand. It checks nothing, and its sum depends on the order of arrival.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import model
from bench.rows import Row, say
from hospitium.algorithms.weighted_sum import WeightedSum
from hospitium.algorithms.weights import weights
from hospitium.privacy.exact_sum import WEIGHT_ONE
from hospitium.types import Params, Seat, Task, Update
from hospitium.wire import blob
from hospitium.wire.blob import Manifest

NUM_UPDATES = 20
MIN_REPEATS, MAX_REPEATS, BUDGET_S = 3, 12, 25.0
MEMORY_TARGET = 3.5
TIME_TARGET = 2.0


def rows(*, small: bool) -> Iterator[Row]:
    """Measure the time of 20 updates, then the memory of 2 and of 20."""
    manifest = model.manifest(small=small)
    size_mb = 4e-6 * blob.num_values(manifest)
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder:
        say(f"writing {NUM_UPDATES} updates of {size_mb:.0f} MB to {folder}")
        paths = [
            model.write(Path(folder) / f"{index}.safetensors", model.draw(manifest, seed=index))
            for index in range(NUM_UPDATES)
        ]
        if hasattr(os, "sync"):
            os.sync()  # or else writing them out goes on while times are taken
        exact_s, plain_s = _times(paths, manifest)
        yield Row(
            name="aggregate_20x23m_time", value=exact_s, unit="s", floor=plain_s, target=TIME_TARGET
        )
        for name, number in (("aggregate_peak_memory_n2", 2), ("aggregate_peak_memory", 20)):
            peak_mb = _peak_mb(paths[:number])
            yield Row(name=name, value=peak_mb, unit="MB", floor=size_mb, target=MEMORY_TARGET)


def _times(paths: Sequence[Path], manifest: Manifest) -> tuple[float, float]:
    """Return the time of the exact and of the plain sum: of each update its best time, in turns."""
    best, best_cpu = (np.full((len(paths), 2), np.inf) for _ in range(2))
    shares = _weights(len(paths))
    began = time.perf_counter()
    for repeat in range(MAX_REPEATS):
        aggregate, task = _aggregate(blob.read(paths[0]), num_sites=len(paths))
        plain = _PlainSum(manifest)
        for index, path in enumerate(paths):
            delta = blob.read(path)
            marks = [_clocks()]
            plain.add(delta, share=shares[f"site-{index}"] / WEIGHT_ONE)
            marks.append(_clocks())
            aggregate.add(_update(task, index, blob.read(path, manifest=manifest)))
            marks.append(_clocks())
            wall, cpu = np.diff(np.array(marks), axis=0).T
            best[index] = np.minimum(best[index], wall)
            best_cpu[index] = np.minimum(best_cpu[index], cpu)
        floor, exact = best.sum(axis=0)
        say(f"best of {repeat + 1}: exact {exact:.3f} s, plain {floor:.3f} s")
        if repeat + 1 >= MIN_REPEATS and time.perf_counter() - began > BUDGET_S:
            break
    plain_cpu, exact_cpu = best_cpu.sum(axis=0)
    say(f"processor time of all threads: exact {exact_cpu:.3f} s, plain {plain_cpu:.3f} s")
    _compare(aggregate.result().delta, plain, sum_weight=sum(shares.values()))
    return float(exact), float(floor)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class _PlainSum:
    """The floor: a float32 sum in place."""

    def __init__(self, manifest: Manifest) -> None:
        self.total = {name: np.zeros(shape, np.float32) for name, _, shape in manifest}
        self._scratch = np.empty(max(array.size for array in self.total.values()), np.float32)

    def add(self, delta: Params, *, share: float) -> None:
        """Add a share of an update."""
        weight = np.float32(share)
        for name, array in delta.items():
            scaled = self._scratch[: array.size].reshape(array.shape)
            np.multiply(array, weight, out=scaled)
            self.total[name] += scaled


def _compare(mean: Mapping[str, npt.NDArray[Any]], plain: _PlainSum, *, sum_weight: int) -> None:
    """Make sure that both sides did the same work."""
    for name, array in mean.items():
        expected = plain.total[name] / (sum_weight / WEIGHT_ONE)
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-9, err_msg=name)


def _peak_mb(paths: Sequence[Path]) -> float:
    """Return the peak memory of an aggregate in a process of its own, mapped updates left out."""
    command = [sys.executable, "-m", "bench.aggregation", *map(str, paths)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _measure_peak(paths: Sequence[Path]) -> float:
    """Aggregate these updates; return the larger of what was allocated and what was resident, MB.

    Mapped files are neither allocated nor anonymous memory.
    """
    params = blob.read(paths[0])
    manifest = blob.manifest_of(params)
    resident = [_resident_anonymous()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            resident.append(_resident_anonymous())

    watcher = threading.Thread(target=watch)
    tracemalloc.start()
    watcher.start()
    before, _ = tracemalloc.get_traced_memory()
    aggregate, task = _aggregate(params, num_sites=len(paths))
    for index, path in enumerate(paths):
        aggregate.add(_update(task, index, blob.read(path, manifest=manifest)))
    aggregate.result()
    _, peak = tracemalloc.get_traced_memory()
    done.set()
    watcher.join()
    allocated_mb, resident_mb = (peak - before) / 1e6, (max(resident) - resident[0]) / 1e6
    say(f"{len(paths)} updates: {allocated_mb:.0f} MB allocated, {resident_mb:.0f} MB resident")
    return max(allocated_mb, resident_mb)


def _resident_anonymous() -> int:
    """Return how much memory of this process is resident and not a mapped file; 0 if unknown."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def _weights(num_sites: int) -> dict[str, int]:
    return weights(_seats(num_sites), exponent=1.0, max_share=0.5)


def _seats(num_sites: int) -> list[Seat]:
    """Return hospitals of unlike size."""
    return [Seat(site_id=f"site-{index}", num_cases=_cases(index)) for index in range(num_sites)]


def _cases(index: int) -> int:
    return 100 + 37 * index


def _aggregate(params: Params, *, num_sites: int) -> tuple[WeightedSum, Task]:
    task = Task(
        run_id="bench",
        round_number=1,
        plan_digest="0" * 64,
        params=params,
        base_digest="1" * 64,
        max_norm=1.0,
    )
    seats = {seat.site_id: seat for seat in _seats(num_sites)}
    return WeightedSum(task, seats=seats, weights=_weights(num_sites)), task


def _update(task: Task, index: int, delta: Params) -> Update:
    return Update(
        run_id=task.run_id,
        round_number=task.round_number,
        site_id=f"site-{index}",
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        num_cases=_cases(index),
        delta=delta,
    )


if __name__ == "__main__":
    print(_measure_peak([Path(path) for path in sys.argv[1:]]))
