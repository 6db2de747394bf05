"""A site's way out: a CONNECT proxy that can be slow, be cut, be shut, and counts what passes."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

BLOCK_BYTES = 1 << 14


class Gate:
    """Listens on a free port of this machine until it is closed.

    Attributes:
        up_per_s: Bytes a second towards the hub; 0 is as fast as it goes.
        down_per_s: The same, from the hub.
        up: Bytes that passed towards the hub.
        down: Bytes that passed from the hub.
        tries: When connections were asked for.
        num_cuts: Connections that were cut at a mark.
        up_marks: When so many bytes have passed towards the hub, all lines are cut; once each.
        down_marks: The same, of bytes from the hub.
    """

    def __init__(self) -> None:
        self.up_per_s = self.down_per_s = 0.0
        self.up = self.down = self.num_cuts = 0
        self.tries: list[float] = []
        self.up_marks: list[int] = []
        self.down_marks: list[int] = []
        self._is_shut = False
        self._closed = threading.Event()
        self._free_at = {True: 0.0, False: 0.0}
        self._lock = threading.Lock()
        self._lines: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shut(self) -> None:
        """Cut what is there, and let nothing through until `open`."""
        self._is_shut = True
        self.cut()

    def open(self) -> None:
        """Let connections through again."""
        self._is_shut = False

    def cut(self) -> None:
        """Cut every connection that is there now."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more connections, cut those that are there, and wait until they are gone."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=20)

    # --- inside ---------------------------------------------------------------------------------

    def _start(self, work: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.tries.append(time.monotonic())
                self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            near.settimeout(10)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = near.recv(1)
                if not byte:
                    return
                head += byte
            if self._is_shut:
                return
            host, port = re.match(r"CONNECT (\S+):(\d+) ", head.decode("latin-1")).groups()
            with socket.create_connection((host, int(port)), timeout=5) as far:
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._join(near, far)

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        for line in (near, far):
            line.settimeout(None)
        if (
            self.up_per_s or self.down_per_s
        ):  # little is on its way inside the kernel, as on a real slow line
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BLOCK_BYTES)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BLOCK_BYTES)
        with self._lock:
            self._lines |= {near, far}
        back = self._start(self._pass_on, far, near, False)
        self._pass_on(near, far, True)
        back.join()
        with self._lock:
            self._lines -= {near, far}

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(BLOCK_BYTES):
                if self._wait(len(data), is_up) or self._is_shut or self._is_marked(is_up):
                    break
                sink.sendall(data)
                with self._lock:
                    if is_up:
                        self.up += len(data)
                    else:
                        self.down += len(data)
        for line in (source, sink):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _wait(self, size: int, is_up: bool) -> bool:
        """Take the time that so many bytes need; return whether the gate was closed meanwhile."""
        rate = self.up_per_s if is_up else self.down_per_s
        if not rate:
            return self._closed.is_set()
        with self._lock:
            begin = max(self._free_at[is_up], time.monotonic())
            self._free_at[is_up] = begin + size / rate
            until = self._free_at[is_up]
        return self._closed.wait(max(0.0, until - time.monotonic()))

    def _is_marked(self, is_up: bool) -> bool:
        """Cut everything where a mark has been reached."""
        with self._lock:
            marks, passed = (self.up_marks, self.up) if is_up else (self.down_marks, self.down)
            if not marks or passed < marks[0]:
                return False
            marks.pop(0)
            self.num_cuts += 1
        self.cut()
        return True
