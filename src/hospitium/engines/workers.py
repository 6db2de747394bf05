"""A pool of worker processes that train: spawned, one torch thread each, replaced when they die.

What goes to a worker and comes back is bytes of canonical JSON; arrays go through files. A worker
ends by itself as soon as its parent is gone, however that happened. In an isolated pool a worker
has no network and none of the parent's secrets; see ``site/isolation.py``.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace

from hospitium.engines.worker_process import Handler, Worker, WorkerDiedError, WorkerSetup
from hospitium.errors import EngineError, SiteError
from hospitium.site.consent import REFUSALS
from hospitium.site.isolation import ALL, Isolation, Limits, View

__all__ = ["Handler", "WorkerDiedError", "WorkerPool"]


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A request in line; None only wants a worker to be there."""

    request: bytes | None
    deadline_s: float
    must_be_cut_off: bool
    future: Future[bytes]


class WorkerPool:
    """N processes that answer requests; further requests wait in line.

    Args:
        handler: Runs in the workers.
        num_workers: Processes; 0 means one for each core.
        isolated: Whether workers give up network, keys and rights before they load the handler.
        limits: What each worker may use.
        addresses: URLs or ``host:port`` of the coordinator and the proxy: an isolated worker tries
            to reach them, and must fail.
        view: How an isolated worker finds this machine's files.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        num_workers: int = 0,
        isolated: bool = False,
        limits: Limits | None = None,
        addresses: Sequence[str] = (),
        view: View = ALL,
    ) -> None:
        self.num_workers = num_workers or os.cpu_count() or 1
        self._setup = WorkerSetup(
            handler=handler,
            isolated=isolated,
            limits=limits or Limits(),
            addresses=tuple(addresses),
            view=view,
        )
        self._found: Isolation = "not_tested"
        self._peak_bytes = 0
        self._requests: queue.Queue[_Item | None] = queue.Queue()
        self._closed = threading.Event()
        self._closing = threading.Lock()
        self._workers: set[Worker] = set()
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{index + 1}", daemon=True)
            for index in range(self.num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, request: bytes, *, deadline_s: float, must_be_cut_off: bool = False
    ) -> Future[bytes]:
        """Put a request in line; its clock starts when a worker takes it.

        The future raises `TimeoutError` at the deadline or the pool's own limit, when the worker is
        killed and replaced, `WorkerDiedError` if the worker is gone, and `EngineError` if the pool
        is closed meanwhile: that is not the site's doing. With ``must_be_cut_off`` it raises
        `SiteError` where the worker could reach the network; the request was not given to it.
        """
        return self._put(request, deadline_s, must_be_cut_off)

    def isolation(self) -> Isolation:
        """Return what the workers found when they tried to get out, the worst of all of them."""
        return self._found

    def peak_memory_bytes(self) -> int:
        """Return the most that one worker was seen to hold; 0 where the system does not tell."""
        with self._closing:
            now = [worker.peak_memory_bytes for worker in self._workers]
            self._peak_bytes = max([self._peak_bytes, *now])
        return self._peak_bytes

    def show(self, view: View) -> None:
        """Have workers find files so from now on; one that is there is replaced when it is idle."""
        self._setup = replace(self._setup, view=view)

    def prepare(self, *, deadline_s: float = 60.0) -> Isolation:
        """Start a worker now, and return what it found; raises as `submit`'s future does."""
        self._put(None, deadline_s, must_be_cut_off=False).result()
        return self._found

    def close(self) -> None:
        """Stop all workers, also in the middle of their work; safe to call twice."""
        with self._closing:
            self._closed.set()
            for worker in self._workers:
                worker.end()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(timeout=10)
        with suppress(queue.Empty):
            while True:
                item = self._requests.get_nowait()
                if item is not None and item.future.set_running_or_notify_cancel():
                    item.future.set_exception(_stopped())

    def _put(
        self, request: bytes | None, deadline_s: float, must_be_cut_off: bool
    ) -> Future[bytes]:
        future: Future[bytes] = Future()
        item = _Item(
            request=request, deadline_s=deadline_s, must_be_cut_off=must_be_cut_off, future=future
        )
        with self._closing:
            if self._closed.is_set():
                raise _stopped()
            self._requests.put(item)
        return future

    def _serve(self) -> None:
        """Own one worker process: hand it one request after the other."""
        if hasattr(signal, "pthread_sigmask"):  # a worker inherits it: Ctrl-C is for the parent
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker: Worker | None = None
        try:
            while not self._closed.is_set():
                item = self._requests.get()
                if item is None:
                    break
                if not item.future.set_running_or_notify_cancel():
                    continue
                try:
                    if worker is not None and not self._serves(worker):
                        self._bury(worker)
                        worker = None
                    worker = worker or self._started()
                    item.future.set_result(self._ask(worker, item))
                except SiteError as error:  # refused before the worker heard of it
                    item.future.set_exception(error)
                except BaseException as error:
                    if worker is not None:
                        self._bury(worker)
                        worker = None
                    item.future.set_exception(_stopped() if self._closed.is_set() else error)
        finally:
            if worker is not None:
                self._bury(worker)

    def _serves(self, worker: Worker) -> bool:
        """Whether a worker was not killed while it was idle, and is what it would be today."""
        return worker.is_alive and worker.setup == self._setup

    def _started(self) -> Worker:
        with self._closing:
            if self._closed.is_set():
                raise _stopped()
            worker = Worker(self._setup)
            self._workers.add(worker)
        return worker

    def _bury(self, worker: Worker) -> None:
        with self._closing:
            self._workers.discard(worker)
        worker.kill()

    def _ask(self, worker: Worker, item: _Item) -> bytes:
        """Let a worker answer, once it has shown that it may be asked."""
        own_s = self._setup.limits.task_s
        with worker.within(min(item.deadline_s, own_s) if own_s > 0 else item.deadline_s):
            found = worker.ready()
            if self._found != "not_cut_off":
                self._found = found
            if item.must_be_cut_off and found != "cut_off":
                raise SiteError(REFUSALS["isolation"])
            reply = b"" if item.request is None else worker.ask(item.request)
        self.peak_memory_bytes()
        return reply


def _stopped() -> EngineError:
    return EngineError(
        "The engine was stopped, and nothing was recorded of what its sites were doing. Go on with "
        "`hospitium run resume RUN`; `hospitium run list` names the runs."
    )
