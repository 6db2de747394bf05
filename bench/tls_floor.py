"""The floor of a round between machines: the same bytes over plain TLS sockets, nothing else done.

N connections at once; on each the model goes down and an update comes up, from memory to memory.
The far ends are processes of their own, as sites are. Nothing is hashed, signed, checked, stored.
"""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import threading
import time
from pathlib import Path

BLOCK_BYTES = 1 << 18
_PATIENCE_S = 120.0


class TlsFloor:
    """N connected processes that copy when they are told to.

    Args:
        num_sites: How many connections.
        size_bytes: Of the model, and of each update.
        certificates: The authority's certificate, the server's, and the server's key.
    """

    def __init__(
        self, *, num_sites: int, size_bytes: int, certificates: tuple[Path, Path, Path]
    ) -> None:
        ca, certificate, key = certificates
        self._size = size_bytes
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        spawn = multiprocessing.get_context("spawn")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(_PATIENCE_S)
            there = (listener.getsockname()[1], str(ca), size_bytes)
            self._far = [
                spawn.Process(target=_copy, args=there, daemon=True) for _ in range(num_sites)
            ]
            for process in self._far:
                process.start()
            self._lines = []
            for _ in self._far:
                line, _ = listener.accept()
                line.settimeout(_PATIENCE_S)
                self._lines.append(context.wrap_socket(line, server_side=True))

    def once_s(self) -> float:
        """Copy once on all connections together; return how long that took."""
        model = bytes(self._size)
        threads = [threading.Thread(target=self._serve, args=(line, model)) for line in self._lines]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - started

    def close(self) -> None:
        """Close the connections: that ends the processes."""
        for line in self._lines:
            line.close()
        for process in self._far:
            process.join(timeout=20)

    def _serve(self, line: ssl.SSLSocket, model: bytes) -> None:
        line.sendall(model)
        _drain(line, self._size)


def _copy(port: int, ca: str, size: int) -> None:
    """Take the model and send as many bytes back, until the line is closed."""
    context = ssl.create_default_context(cafile=ca)
    update = bytes(size)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as line,
    ):
        line.settimeout(None)
        while _drain(line, size):
            line.sendall(update)


def _drain(line: ssl.SSLSocket, size: int) -> bool:
    """Read this many bytes into one buffer; False where the line is at its end."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    while size:
        num_read = line.recv_into(buffer, min(size, BLOCK_BYTES))
        if not num_read:
            return False
        size -= num_read
    return True
