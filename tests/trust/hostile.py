"""A server that answers a site as nobody honest would: what a hub, or a proxy, could try."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from throwaway_ca import write_certificates

from hospitium.engines.hub.connection import Connection


class HostileHub:
    """Answers each request with whatever a function makes of its first line; TLS, on loopback."""

    def __init__(self, folder: Path, answer: Callable[[str], bytes | None]) -> None:
        self.ca, certificate, key = write_certificates(folder)
        self.asked: list[str] = []
        self._answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self._stop = threading.Event()
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def connection(self, **more) -> Connection:
        return Connection(
            url=f"https://127.0.0.1:{self.port}", ca_file=self.ca, longest_pause_s=0.05,
            timeout_s=5.0, patience_s=0.0, **more,
        )  # fmt: skip

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                plain, _ = self._socket.accept()
                with plain:
                    plain.settimeout(5)
                    with self._context.wrap_socket(plain, server_side=True) as line:
                        self._talk(line)

    def _talk(self, line: ssl.SSLSocket) -> None:
        """Answer one request, in pieces, and close."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = line.recv(65_536)
            if not piece:
                return
            head += piece
        first = head.split(b"\r\n", 1)[0].decode()
        self.asked.append(first)
        answer = self._answer(first)
        for start in range(0, len(answer or b""), 1 << 20):
            line.sendall((answer or b"")[start : start + (1 << 20)])


def answering(content: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer as it stands on the line."""
    headers = {"content-length": str(len(content)), "connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content
