"""Stand-ins for `threading`, `time`, `queue` and `concurrent.futures`, in virtual time."""

from __future__ import annotations

import queue as real_queue
import threading as real_threading
import time as real_time
from collections import deque
from collections.abc import Callable
from typing import Any

from virtual_time import BEGIN_S, BEGIN_UTC_S, Strand, world


class Lock:
    """`threading.Lock`; with ``is_reentrant`` `threading.RLock`."""

    is_reentrant = False

    def __init__(self) -> None:
        self._owner: Strand | None = None
        self._depth = 0
        self._waiting: deque[Strand] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        here = world()
        me = here.current
        while self._depth and not (self.is_reentrant and self._owner is me):
            assert me is not None, "a check must not wait for a lock"
            self._waiting.append(me)
            here.park()
        self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            if self._waiting:
                world().wake(self._waiting.popleft())

    def locked(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def let_go(self) -> int:
        """Give the lock up however often it was taken; return how often."""
        depth, self._depth = self._depth, 1
        self.release()
        return depth

    def take_back(self, depth: int) -> None:
        """Take it as often as it was taken."""
        self.acquire()
        self._depth = depth


class RLock(Lock):
    """`threading.RLock`."""

    is_reentrant = True


class Condition:
    """`threading.Condition`."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or RLock()
        self._waiting: list[Strand] = []

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        here = world()
        me = here.current
        assert me is not None
        self._waiting.append(me)
        depth = self._lock.let_go()
        woken = here.park(timeout)
        if me in self._waiting:
            self._waiting.remove(me)
        self._lock.take_back(depth)
        return woken

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        until = None if timeout is None else world().now + timeout
        while not predicate():
            left = None if until is None else until - world().now
            if left is not None and left <= 0:
                return False
            self.wait(left)
        return True

    def notify(self, n: int = 1) -> None:
        for strand in self._waiting[:n]:
            self._waiting.remove(strand)
            world().wake(strand)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Event:
    """`threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[Strand] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for strand in waiting:
            world().wake(strand)

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        here = world()
        until = None if timeout is None else here.now + timeout
        while not self._is_set:
            left = None if until is None else until - here.now
            if left is not None and left <= 0:
                break
            assert here.current is not None
            self._waiting.append(here.current)
            here.park(left)
            if here.current in self._waiting:
                self._waiting.remove(here.current)
        return self._is_set


class Thread:
    """`threading.Thread`."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] = lambda: None,
        name: str = "thread",
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name
        self._call = lambda: target(*args, **(kwargs or {}))
        self._strand: Strand | None = None

    def start(self) -> None:
        here = world()
        assert here.current is not None
        self._strand = here.spawn(here.current.node, self._call, self.name)

    def is_alive(self) -> bool:
        return self._strand is not None and not self._strand.is_done

    def join(self, timeout: float | None = None) -> None:
        here, strand = world(), self._strand
        until = None if timeout is None else here.now + timeout
        me = here.current
        while strand is not None and not strand.is_done and me is not None and not me.node.is_dead:
            left = None if until is None else until - here.now
            if left is not None and left <= 0:
                return
            strand.joiners.append(me)
            here.park(left)


class Module:
    """A stand-in for a module: its own names, and the real module's for the rest."""

    def __init__(self, real: Any, **own: Any) -> None:
        self.__dict__.update(own)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _ident() -> int:
    strand = world().current
    return 0 if strand is None else strand.ident


def wall() -> float:
    here = world()
    offset = 0.0 if here.current is None else here.current.node.clock_offset_s
    return BEGIN_UTC_S + here.now - BEGIN_S + offset


Threading = Module(
    real_threading, Lock=Lock, RLock=RLock, Condition=Condition, Event=Event, Thread=Thread,
    get_ident=_ident,
)  # fmt: skip

Time = Module(
    real_time,
    monotonic=lambda: world().now,
    perf_counter=lambda: world().now,
    time=wall,
    time_ns=lambda: int(wall() * 1e9),
    sleep=lambda seconds: world().sleep(seconds),
)


class Queue:
    """`queue.Queue`."""

    def __init__(self, maxsize: int = 0) -> None:
        self._items: deque[Any] = deque()
        self._waiting: deque[Strand] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        if self._waiting:
            world().wake(self._waiting.popleft())

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        here = world()
        until = None if timeout is None else here.now + timeout
        while not self._items:
            left = None if until is None else until - here.now
            if not block or (left is not None and left <= 0):
                raise real_queue.Empty
            assert here.current is not None
            self._waiting.append(here.current)
            here.park(left)
            if here.current in self._waiting:
                self._waiting.remove(here.current)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items


Queueing = Module(real_queue, Queue=Queue, SimpleQueue=Queue)


class Future:
    """`concurrent.futures.Future`."""

    def __init__(self) -> None:
        self._done = Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self._calls: list[Callable[[Future], None]] = []

    def done(self) -> bool:
        return self._done.is_set()

    def set_result(self, result: Any) -> None:
        self._result = result
        self._finish()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        self._done.set()
        for call in self._calls:
            call(self)

    def add_done_callback(self, call: Callable[[Future], None]) -> None:
        if self.done():
            call(self)
        else:
            self._calls.append(call)

    def result(self, timeout: float | None = None) -> Any:
        if not self._done.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self._done.wait(timeout):
            raise TimeoutError
        return self._error

    def cancel(self) -> bool:
        return False


class Executor:
    """`ThreadPoolExecutor`: each job is a strand."""

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = "job") -> None:
        self._name = thread_name_prefix
        self._strands: list[Strand] = []

    def submit(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
        here, future = world(), Future()
        assert here.current is not None

        def work() -> None:
            try:
                future.set_result(call(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        self._strands.append(here.spawn(here.current.node, work, self._name))
        return future

    def map(self, call: Callable[..., Any], *items: Any) -> list[Any]:
        return [
            future.result()
            for future in [self.submit(call, *row) for row in zip(*items, strict=False)]
        ]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        here = world()
        me = here.current
        for strand in self._strands:
            while wait and me is not None and not me.node.is_dead and not strand.is_done:
                strand.joiners.append(me)
                here.park()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def wait_for_futures(
    futures: Any, timeout: float | None = None, return_when: str = "ALL_COMPLETED"
) -> tuple[set[Future], set[Future]]:
    """`concurrent.futures.wait`."""
    here, futures = world(), list(futures)
    until = None if timeout is None else here.now + timeout
    while True:
        done = {future for future in futures if future.done()}
        enough = done if return_when == "FIRST_COMPLETED" else len(done) == len(futures)
        left = None if until is None else until - here.now
        if enough or not futures or (left is not None and left <= 0):
            return done, set(futures) - done
        me = here.current
        assert me is not None
        for future in futures:
            if not future.done():
                future._done._waiting.append(me)
        here.park(left)
        for future in futures:
            if me in future._done._waiting:
                future._done._waiting.remove(me)
