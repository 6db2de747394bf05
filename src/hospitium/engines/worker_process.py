"""One worker process: how it is started, what it gives up, and the two pipes to it.

It is a fresh interpreter that loads nothing of the parent's program: not its main module, and, if
it is isolated, not its environment. Frames of known length go over two pipes: what to be (to the
worker), what it found about its isolation (back), then requests and replies in turn.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast, get_args

from hospitium.site import isolation
from hospitium.site.footprint import peak_memory_bytes
from hospitium.site.isolation import Isolation, Limits, View

Handler: TypeAlias = Callable[[bytes], bytes]
"""What a worker does with a request; a module-level function, which a worker finds by its name."""

MAX_FRAME_BYTES = 1 << 28
_LENGTH = struct.Struct("!Q")
_BOOT = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from hospitium.engines.worker_process import work; work()"
)


class WorkerDiedError(Exception):
    """The process of a worker ended before it replied."""


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker is to be."""

    handler: Handler
    isolated: bool
    limits: Limits
    addresses: tuple[str, ...]
    view: View


class Worker:
    """A process that answers one request at a time."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self._found: Isolation | None = None
        self._is_over = threading.Event()
        self._owns_group = setup.isolated and os.name == "posix"
        given = dict(os.environ)
        command = [sys.executable, *(["-B"] if setup.isolated else []), "-c", _BOOT, *sys.path]
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=isolation.environment(given) if setup.isolated else given,
            start_new_session=setup.isolated,  # no way to the agent's terminal
        )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._replies = cast(BinaryIO, self._process.stdout)

    @property
    def is_alive(self) -> bool:
        """Whether the process is there still."""
        return self._process.poll() is None

    @property
    def peak_memory_bytes(self) -> int:
        """The most that the process ever held in memory; 0 once it is gone."""
        return peak_memory_bytes(self._process.pid) if self.is_alive else 0

    @contextmanager
    def within(self, deadline_s: float) -> Iterator[None]:
        """Do the work of the block, and end the process when the time is over.

        Raises:
            TimeoutError: The time was over.
            WorkerDiedError: The process ended by itself.
        """
        timer = threading.Timer(deadline_s, self._time_is_over)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError) as error:
            if self._is_over.is_set():
                raise TimeoutError from None
            raise WorkerDiedError("its process ended before it answered") from error
        finally:
            timer.cancel()

    def ready(self) -> Isolation:
        """Wait for the worker to be what it is to be, and return what it found when it tried."""
        if self._found is None:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                here = f"127.0.0.1:{listener.getsockname()[1]}"
                _send(self._requests, _first_frame(self.setup, here=here))
                found = _receive(self._replies).decode("ascii", "replace")
            assert found in get_args(Isolation), "the worker is still ours"
            self._found = cast(Isolation, found)
        return self._found

    def ask(self, request: bytes) -> bytes:
        """Send a request and wait for the reply."""
        _send(self._requests, request)
        return _receive(self._replies)

    def end(self) -> None:
        """Stop the process, from whatever thread; what waits for it hears that it died."""
        if not self.is_alive:
            return
        if self._owns_group:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def kill(self) -> None:
        """End the process at once and take its last resources."""
        self.end()
        self._process.wait(timeout=10)
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # bytes that nobody reads any more
                pipe.close()

    def _time_is_over(self) -> None:
        self._is_over.set()
        self.end()


def _first_frame(setup: WorkerSetup, *, here: str) -> bytes:
    """Return what a worker is told first; ``here`` is where this process listens for it."""
    return json.dumps(
        {
            "module": setup.handler.__module__,
            "name": setup.handler.__qualname__,
            "isolated": setup.isolated,
            "limits": asdict(setup.limits),
            "addresses": [here, *setup.addresses],
            "view": _told(setup.view),
        }
    ).encode()


def work() -> None:
    """Run in the worker: give up what it shall not have, then answer requests until the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    requests, replies = _own_pipes()
    told = json.loads(_receive(requests))
    _send(replies, _confined(told).encode())
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(requests, waiting), daemon=True).start()
    try:
        handler: Handler = getattr(importlib.import_module(told["module"]), told["name"])
        while True:
            _send(replies, handler(waiting.get()))
    except BaseException:
        traceback.print_exc()  # for the site's own staff
        os._exit(1)


def _confined(told: dict[str, Any]) -> Isolation:
    """Give up what this worker shall not have; return what it finds when it tries to get out."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    view = _read(told["view"])
    if view.temporary is not None:
        os.environ["TMPDIR"] = str(view.temporary)
    if told["isolated"]:
        isolation.cut_off(view)
    isolation.limit(Limits(**told["limits"]))
    return isolation.probe(told["addresses"], view=view) if told["isolated"] else "not_tested"


def _told(view: View) -> dict[str, list[str]]:
    temporary = [] if view.temporary is None else [view.temporary]
    fields = {**asdict(view), "temporary": temporary}
    return {name: [str(path) for path in paths] for name, paths in fields.items()}


def _read(told: dict[str, list[str]]) -> View:
    fields = {name: tuple(Path(path) for path in paths) for name, paths in told.items()}
    return View(temporary=next(iter(fields.pop("temporary")), None), **fields)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take the two pipes for ourselves; what a library prints, or reads, goes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return requests, replies


def _take(requests: BinaryIO, waiting: queue.SimpleQueue[bytes]) -> None:
    """Put requests in line; when the parent is gone, end, even in the middle of training."""
    try:
        while True:
            waiting.put(_receive(requests))
    except (EOFError, OSError):
        os._exit(1)


def _send(pipe: BinaryIO, frame: bytes) -> None:
    pipe.write(_LENGTH.pack(len(frame)) + frame)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes:
    """Return the next frame.

    Raises:
        EOFError: There is none, or one of a length that nobody sends.
    """
    head = pipe.read(_LENGTH.size)
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_FRAME_BYTES + 1
    if size > MAX_FRAME_BYTES:
        raise EOFError
    frame = pipe.read(size)
    if len(frame) != size:
        raise EOFError
    return frame
