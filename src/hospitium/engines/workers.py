"""A pool of worker processes that train: spawned, one torch thread each, replaced when they die.

What goes to a worker and comes back is bytes of canonical JSON; arrays go through files. A worker
ends by itself as soon as its parent is gone, however that happened.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeAlias

from hospitium.errors import EngineError

Handler: TypeAlias = Callable[[bytes], bytes]
"""What a worker does with a request; a module-level function, so that spawn finds it."""


class WorkerDiedError(Exception):
    """The process of a worker ended before it replied."""


class WorkerPool:
    """N processes that answer requests; further requests wait in line.

    Args:
        handler: Runs in the workers.
        num_workers: Processes; 0 means one for each core.
    """

    def __init__(self, handler: Handler, *, num_workers: int = 0) -> None:
        self.num_workers = num_workers or os.cpu_count() or 1
        self._handler = handler
        self._requests: queue.Queue[tuple[bytes, float, Future[bytes]] | None] = queue.Queue()
        self._closed = threading.Event()
        self._closing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{index + 1}", daemon=True)
            for index in range(self.num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: bytes, *, deadline_s: float) -> Future[bytes]:
        """Put a request in line; its clock starts when a worker takes it.

        The future raises `TimeoutError` at the deadline, when the worker is killed and replaced,
        `WorkerDiedError` if the worker is gone, and `EngineError` if the pool is closed meanwhile:
        that is not the site's doing.
        """
        future: Future[bytes] = Future()
        with self._closing:
            if self._closed.is_set():
                raise _stopped()
            self._requests.put((request, deadline_s, future))
        return future

    def close(self) -> None:
        """Stop all workers, also in the middle of their work; safe to call twice."""
        with self._closing:
            self._closed.set()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(timeout=10)
        with suppress(queue.Empty):
            while True:
                item = self._requests.get_nowait()
                if item is not None and item[2].set_running_or_notify_cancel():
                    item[2].set_exception(_stopped())

    def _serve(self) -> None:
        """Own one worker process: hand it one request after the other."""
        if hasattr(signal, "pthread_sigmask"):  # a worker inherits it: Ctrl-C is for the parent
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker: _Worker | None = None
        try:
            while not self._closed.is_set():
                item = self._requests.get()
                if item is None:
                    break
                request, deadline_s, future = item
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    if worker is not None and not worker.is_alive:  # killed while it was idle
                        worker.kill()
                        worker = None
                    worker = worker or _Worker(self._handler)
                    future.set_result(worker.ask(request, deadline_s, stop=self._closed))
                except BaseException as error:
                    if worker is not None:
                        worker.kill()
                        worker = None
                    future.set_exception(error)
        finally:
            if worker is not None:
                worker.kill()


def _stopped() -> EngineError:
    return EngineError(
        "The engine was stopped, and nothing was recorded of what its sites were doing. Go on with "
        "`hospitium run resume RUN`; `hospitium run list` names the runs."
    )


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, handler: Handler) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_work,
            args=(theirs, handler.__module__, handler.__qualname__),
            daemon=True,
        )
        self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process is there still."""
        return self._process.is_alive()

    def ask(self, request: bytes, deadline_s: float, *, stop: threading.Event) -> bytes:
        """Send a request and wait for the reply, the deadline, the process's end, or a stop."""
        try:
            self._pipe.send_bytes(request)
            left_s = deadline_s
            while left_s > 0 and not stop.is_set():
                slice_s = min(left_s, 0.5)
                if wait([self._pipe, self._process.sentinel], timeout=slice_s):
                    return self._pipe.recv_bytes()
                left_s -= slice_s
        except (EOFError, OSError) as error:
            raise WorkerDiedError("its process ended before it answered") from error
        if stop.is_set():
            raise _stopped()
        raise TimeoutError

    def kill(self) -> None:
        """End the process at once and take its last resources."""
        self._process.kill()
        self._process.join(timeout=10)
        self._pipe.close()


def _work(pipe: Connection, module: str, name: str) -> None:
    """Run in the worker: answer requests until the parent goes away.

    The handler comes by name, so that its libraries are loaded when the number of threads is set.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    handler: Handler = getattr(importlib.import_module(module), name)
    while True:
        try:
            request = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send_bytes(handler(request))


def _leave_with_parent() -> None:
    """End this process when its parent is gone, even in the middle of training."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
