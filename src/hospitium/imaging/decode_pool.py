"""Worker processes that may crash or hang on a file without harm: each request gets an answer.

A worker is spawned, with one thread for BLAS and ITK, and ends by itself when its parent does. One
that dies, or is too slow, is replaced; its request is tried once more, alone, and then given up.
Nothing heavy is imported here, so that the number of threads is set before any library is loaded.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeAlias, TypeVar

from hospitium.errors import DataError

Handler: TypeAlias = Callable[[bytes], bytes]
Prepare: TypeAlias = Callable[[bytes], Handler]
"""Makes a handler from settings; a module-level function, so that a spawned process finds it."""
Item = TypeVar("Item")

MAX_AHEAD = 64
"""How many requests may be answered or in work before the first one that is not."""

_DEPTH = 3
_START_S = 120.0
_READY = b"ready"
_THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True, kw_only=True)
class GaveUp:
    """A request on which two workers died or were too slow."""

    detail: str


@dataclass(kw_only=True)
class _Job(Generic[Item]):
    """One item on its way through the pool."""

    item: Item
    request: bytes | None
    answer: bytes | GaveUp | None = None
    deaths: int = 0

    @property
    def is_done(self) -> bool:
        return self.request is None or self.answer is not None


def answers(
    jobs: Iterable[tuple[Item, bytes | None]],
    *,
    prepare: Prepare,
    settings: bytes,
    num_workers: int,
    time_limit_s: float = 60.0,
) -> Iterator[tuple[Item, bytes | GaveUp | None]]:
    """Yield each item with the answer to its request, in order; at most ``MAX_AHEAD`` wait.

    Args:
        jobs: Items, each with a request of at most a few KiB; without one the answer is None.
        prepare: Called once in each worker.
        settings: Given to ``prepare``; never written anywhere.
        num_workers: Processes. 0 works in this process, where nothing limits time or a crash.
        time_limit_s: For one request, from the moment a worker takes it.

    Raises:
        DataError: No worker can start.
    """
    if num_workers == 0:
        handler = prepare(settings)
        for item, request in jobs:
            yield item, None if request is None else handler(request)
        return
    pool: _Pool[Item] = _Pool(prepare, settings, num_workers, time_limit_s)
    try:
        yield from pool.run(iter(jobs))
    finally:
        pool.close()


class _Pool(Generic[Item]):
    """Hands requests to workers and answers back, in one thread."""

    def __init__(
        self, prepare: Prepare, settings: bytes, num_workers: int, time_limit_s: float
    ) -> None:
        self._prepare = prepare
        self._settings = settings
        self._num_workers = num_workers
        self._time_limit_s = time_limit_s
        self._workers: list[_Worker[Item]] = []
        self._again: deque[_Job[Item]] = deque()

    def run(
        self, jobs: Iterator[tuple[Item, bytes | None]]
    ) -> Iterator[tuple[Item, bytes | GaveUp | None]]:
        """Answer all jobs; see `answers`."""
        line: deque[_Job[Item]] = deque()
        is_more = True
        while is_more or line:
            while is_more and len(line) < MAX_AHEAD and self._has_room:
                if (found := next(jobs, None)) is None:
                    is_more = False
                else:
                    line.append(_Job(item=found[0], request=found[1]))
                    self._give(line[-1])
            while line and line[0].is_done:
                job = line.popleft()
                yield job.item, job.answer
            if line and (len(line) >= MAX_AHEAD or not self._has_room or not is_more):
                self._wait()

    def close(self) -> None:
        """End every worker, also in the middle of its work."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    @property
    def _has_room(self) -> bool:
        """Whether a further request would not wait long."""
        if self._again:
            return False
        is_full = len(self._workers) == self._num_workers
        return not is_full or any(len(worker.jobs) < _DEPTH for worker in self._workers)

    def _give(self, job: _Job[Item]) -> None:
        """Hand a job to the worker with the fewest, or to a new one while there may be more."""
        if job.request is None:
            return
        idle = min(self._workers, key=lambda worker: len(worker.jobs), default=None)
        if idle is None or (idle.jobs and len(self._workers) < self._num_workers):
            idle = _Worker(self._prepare, self._settings)
            self._workers.append(idle)
        idle.give(job)

    def _wait(self) -> None:
        """Take what is ready; replace who died or is too slow; hand out again what it had."""
        now = time.monotonic()
        left_s = [worker.left_s(now, self._time_limit_s) for worker in self._workers]
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(pipes, timeout=max(0.0, min(left_s, default=0.0))):
            worker = pipes[pipe]  # type: ignore[index]
            if not worker.take():
                self._bury(worker, "a worker process died on it")
        now = time.monotonic()
        for worker in [*self._workers]:
            if worker.left_s(now, self._time_limit_s) <= 0:
                self._bury(worker, f"not decoded in {self._time_limit_s:g} s")
        self._hand_out_again()

    def _bury(self, worker: _Worker[Item], cause: str) -> None:
        """Take a worker out; the job that it was at is tried once more, or given up."""
        worker.kill()
        self._workers.remove(worker)
        if not worker.is_ready:
            raise DataError(
                f"A worker process for reading images could not start ({worker.trouble or cause}). "
                "Nothing more was read, and what was read is kept. Check the installation with "
                "`hospitium version --json`, then run the same command again."
            )
        if worker.jobs:
            job = worker.jobs.popleft()
            job.deaths += 1
            if job.deaths == 2:
                job.answer = GaveUp(detail=cause)
            else:
                self._again.append(job)
        self._again.extend(worker.jobs)

    def _hand_out_again(self) -> None:
        """Give jobs of a dead worker away; one that killed it gets a worker of its own."""
        while self._again and self._has_room_again(self._again[0]):
            self._give(self._again.popleft())

    def _has_room_again(self, job: _Job[Item]) -> bool:
        if len(self._workers) < self._num_workers:
            return True
        return any(len(worker.jobs) < (1 if job.deaths else _DEPTH) for worker in self._workers)


class _Worker(Generic[Item]):
    """One process, the pipe to it, and the jobs it has, the first of which it is at."""

    def __init__(self, prepare: Prepare, settings: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.jobs: deque[_Job[Item]] = deque()
        self.is_ready = False
        self.trouble = ""
        self._since = time.monotonic()
        self._process = context.Process(
            target=_work, args=(theirs, prepare.__module__, prepare.__qualname__), daemon=True
        )
        self._process.start()
        theirs.close()
        with suppress(OSError):  # a worker that is dead already is found when it is waited for
            self.pipe.send_bytes(settings)

    def give(self, job: _Job[Item]) -> None:
        """Send a request; a worker that is gone is found when it is waited for."""
        assert job.request is not None
        if not self.jobs and self.is_ready:
            self._since = time.monotonic()
        self.jobs.append(job)
        with suppress(OSError):
            self.pipe.send_bytes(job.request)

    def take(self) -> bool:
        """Take every answer that is there; return whether the process lives."""
        try:
            while self.pipe.poll():
                answer = self.pipe.recv_bytes()
                self._since = time.monotonic()
                if self.is_ready:
                    self.jobs.popleft().answer = answer
                elif answer == _READY:
                    self.is_ready = True
                else:
                    self.trouble = answer.decode("utf-8", "replace")
        except (EOFError, OSError):
            return False
        return True

    def left_s(self, now: float, time_limit_s: float) -> float:
        """Return how long it may still take for what it is at; an hour where it is at nothing."""
        if not self.is_ready:
            return self._since + _START_S - now
        return self._since + time_limit_s - now if self.jobs else 3600.0

    def kill(self) -> None:
        """End the process at once and take its last resources."""
        self._process.kill()
        self._process.join(timeout=10)
        self.pipe.close()


def _work(pipe: Connection, module: str, name: str) -> None:
    """Run in the worker: answer requests, one after the other, until the parent goes away.

    Codecs write to stderr as they like; what must be known goes through the pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for variable in _THREADS:
        os.environ[variable] = "1"
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        try:
            prepare: Prepare = getattr(importlib.import_module(module), name)
            handler = prepare(pipe.recv_bytes())
        except Exception as error:
            pipe.send_bytes(f"{type(error).__name__}: {error}".encode())
            return
        pipe.send_bytes(_READY)
        while True:
            pipe.send_bytes(handler(pipe.recv_bytes()))


def _leave_with_parent() -> None:
    """End this process when its parent is gone, even in the middle of decoding."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
