"""A real proxy of our own that does one thing wrong: wants a login, refuses, opens TLS, cuts."""

from __future__ import annotations

import base64
import re
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a proxy does wrong; without anything it is a good one.

    Attributes:
        refuse: What it answers to CONNECT in place of 200, with a page for people.
        login: ``user:password`` that it wants.
        methods: Ways to log in that it offers.
        opens_tls: Certificate and key in one PEM file, with which it opens TLS.
        trusts: PEM of the hub's authority, for a proxy that opens TLS.
        max_body: Bytes of a body that pass, where it opens TLS; larger ones are refused.
        idle_s: Silence after which it cuts a connection.
    """

    refuse: str = ""
    login: str = ""
    methods: tuple[str, ...] = ('Basic realm="hospital"',)
    opens_tls: Path | None = None
    trusts: Path | None = None
    max_body: int = 0
    idle_s: float = 60.0


class FaultyProxy:
    """Listens on a free port of this machine until it is closed."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault or Fault()
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            near.settimeout(10)
            head = _read_head(near)
            self.asked.append(head.split("\r\n")[0])
            if not self._lets_in(near, head):
                return
            host, port = re.match(r"CONNECT (\S+):(\d+) ", head).groups()
            try:
                far = socket.create_connection((host, int(port)), timeout=5)
            except OSError:
                near.sendall(_page("503 Service Unavailable", "The other end does not answer."))
                return
            with far:
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._pass_on(near, far, host)

    def _lets_in(self, near: socket.socket, head: str) -> bool:
        wanted = base64.b64encode(self.fault.login.encode()).decode()
        if self.fault.login and f"Basic {wanted}" not in head:
            fields = "".join(f"Proxy-Authenticate: {way}\r\n" for way in self.fault.methods)
            near.sendall(_page("407 Proxy Authentication Required", "Please log in.", fields))
            return False
        if self.fault.refuse:
            near.sendall(_page(self.fault.refuse, "This site is blocked by the firewall team."))
            return False
        return True

    def _pass_on(self, near: socket.socket, far: socket.socket, host: str) -> None:
        if self.fault.opens_tls is None:
            _relay(near, far, idle_s=self.fault.idle_s, stop=self._closed)
            return
        inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inner.load_cert_chain(self.fault.opens_tls)
        outer = ssl.create_default_context(cafile=self.fault.trusts)
        with (
            inner.wrap_socket(near, server_side=True) as opened,
            outer.wrap_socket(far, server_hostname=host) as beyond,
        ):
            if self.fault.max_body and self._is_too_large(opened, beyond):
                return
            _relay(opened, beyond, idle_s=self.fault.idle_s, stop=self._closed)

    def _is_too_large(self, near: ssl.SSLSocket, far: ssl.SSLSocket) -> bool:
        """Look at one request after the other; refuse a body that is too large."""
        while not self._closed.is_set():
            head = _read_head(near)
            size = re.search(r"(?i)\r\ncontent-length: (\d+)", head)
            length = int(size[1]) if size else 0
            if length > self.fault.max_body:
                near.sendall(_page("413 Request Entity Too Large", "Your request is too large."))
                _read(near, length)  # else a reset would take the answer away
                return True
            far.sendall(head.encode("latin-1") + _read(near, length))
            answer = _read_head(far)
            size = re.search(r"(?i)\r\ncontent-length: (\d+)", answer)
            near.sendall(answer.encode("latin-1") + _read(far, int(size[1]) if size else 0))
        return True


def _read_head(line: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        block = line.recv(1)
        if not block:
            raise ConnectionError("it hung up")
        data += block
    return data.decode("latin-1")


def _read(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        block = line.recv(min(1 << 16, size - len(data)))
        if not block:
            raise ConnectionError("it hung up")
        data += block
    return data


def _page(status: str, words: str, fields: str = "") -> bytes:
    page = f"<html><head><title>x</title></head><body><p>{words}</p></body></html>"
    head = f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(page)}\r\nConnection: close\r\n\r\n"
    return (head + page).encode()


def _relay(
    near: socket.socket, far: socket.socket, *, idle_s: float, stop: threading.Event
) -> None:
    """Pass bytes on both ways until one side ends, or nothing came for so long."""
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for source, sink in ((near, far), (far, near)):
            selector.register(source, selectors.EVENT_READ, sink)
        while time.monotonic() - heard < idle_s and not stop.is_set():
            for key, _ in selector.select(0.2):
                heard = time.monotonic()
                data = key.fileobj.recv(1 << 16)
                if not data:
                    return
                key.data.sendall(data)
                while isinstance(key.fileobj, ssl.SSLSocket) and key.fileobj.pending():
                    key.data.sendall(key.fileobj.recv(1 << 16))
