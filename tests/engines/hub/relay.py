"""A TCP relay of our own that cuts connections after so many bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress


class CuttingRelay:
    """Passes bytes on; connection number k is cut when it has carried as many as the plan says.

    Args:
        port: Where the bytes go.
        cut_after: Bytes towards the server after which each of the first connections is cut,
            and bytes from the server likewise; further connections are left alone.
    """

    def __init__(self, port: int, *, cut_after: list[tuple[int, int]]) -> None:
        self._target = port
        self._plan: Iterator[tuple[int, int]] = iter(cut_after)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.num_cuts = 0
        self.to_server = 0
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Take no more connections, and wait until those that were taken are closed."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=20)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        up, down = next(self._plan, (1 << 60, 1 << 60))
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            back = threading.Thread(target=self._pass_on, args=(far, near, down, False))
            back.start()
            self._pass_on(near, far, up, True)
            back.join()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int, is_up: bool) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                carried += len(data)
                if carried > limit:
                    self.num_cuts += 1
                    break
                if is_up:
                    self.to_server += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
