"""The way from a site to its hub, one hop after the other: name, TCP, proxy, CONNECT, TLS.

Plain sockets, so that each hop is tried by itself and what stands in between is seen as it is. No
hop sends anything but what it needs: a CONNECT line to a proxy, a TLS greeting to the hub.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit

Failure = Literal["no_name", "refused", "silent", "unreachable", "closed", "untrusted", "expired",
                  "wrong_name", "no_tls"]  # fmt: skip
HOP_S = 10.0
MAX_HEAD_BYTES = 64 << 10
_BODY_BYTES = 16 << 10
_VERIFY: dict[int, Failure] = {9: "expired", 10: "expired", 62: "wrong_name", 64: "wrong_name"}
"""OpenSSL's codes of a certificate that is not yet or no longer valid, or of another host."""

_Found = TypeVar("_Found")


class HopError(Exception):
    """A hop could not be made.

    Args:
        kind: What went wrong, of a closed list.
        words: What the system said.
    """

    def __init__(self, kind: Failure, words: str) -> None:
        self.kind = kind
        super().__init__(words)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine and a port; ``str`` of it is how people write it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy, and who said that there is one; the login is never printed."""

    place: Place
    scheme: str
    login: str
    said_by: str

    @property
    def authorization(self) -> str:
        """The value of ``Proxy-Authorization``; empty without a login."""
        return f"Basic {base64.b64encode(self.login.encode()).decode()}" if self.login else ""


@dataclass(frozen=True, kw_only=True)
class Tunnel:
    """What a proxy answered to CONNECT; ``logins`` are the methods that it offers after a 407."""

    status: int
    text: str
    logins: tuple[str, ...]


def place_of(url: str) -> Place:
    """Return where an ``https`` address leads; 443 where it names no port."""
    parts = urlsplit(url)
    return Place(host=parts.hostname or "", port=parts.port or 443)


def find_proxy(url: str, *, setting: str) -> Proxy | None:
    """Return the proxy that requests to an address take; None for none.

    What the site's settings say comes first, then ``HTTPS_PROXY`` and ``ALL_PROXY`` with
    ``NO_PROXY``, then (Windows, macOS) the system.

    Raises:
        ValueError: What was set is no address of a proxy.
    """
    if setting:
        return _proxy(setting, said_by="the settings")
    known = urllib.request.getproxies()
    found = known.get("https") or known.get("all") or ""
    if not found or urllib.request.proxy_bypass(place_of(url).host):
        return None
    named = urllib.request.getproxies_environment()
    is_named = found in (named.get("https"), named.get("all"))
    return _proxy(found, said_by="the environment" if is_named else "the system")


def _proxy(text: str, *, said_by: str) -> Proxy:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if not parts.hostname:
        raise ValueError(f"the proxy of {said_by} names no host")
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    place = Place(host=parts.hostname, port=parts.port or (443 if parts.scheme == "https" else 80))
    return Proxy(place=place, scheme=parts.scheme, login=login, said_by=said_by)


def resolver() -> str:
    """Return which resolver this machine asks; empty where the system does not say."""
    with suppress(OSError, UnicodeDecodeError):
        text = Path("/etc/resolv.conf").read_text(encoding="utf-8")
        return ", ".join(re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE))
    return ""


def resolve(place: Place, *, timeout_s: float = HOP_S) -> list[str]:
    """Return the addresses of a name.

    Raises:
        HopError: ``no_name``: there are none, or nobody answered.
    """
    try:
        found = _within(
            timeout_s,
            lambda: socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM),
        )
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise HopError("no_name", words) from error
    return list(dict.fromkeys(str(row[4][0]) for row in found))


def _within(timeout_s: float, work: Callable[[], _Found]) -> _Found:
    """Do something that cannot be given a time-out; what is late is left behind."""
    found: list[_Found] = []
    failed: list[OSError | UnicodeError] = []

    def run() -> None:
        try:
            found.append(work())
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer in {timeout_s:.0f} s")
    return found[0]


def connect(place: Place, *, timeout_s: float = HOP_S) -> socket.socket:
    """Open a TCP connection.

    Raises:
        HopError: ``refused``, ``silent`` (nothing came back) or ``unreachable``.
    """
    try:
        return socket.create_connection((place.host, place.port), timeout=timeout_s)
    except ConnectionRefusedError as error:
        raise HopError("refused", "the connection was refused") from error
    except TimeoutError as error:
        raise HopError("silent", f"nothing came back in {timeout_s:.0f} s") from error
    except OSError as error:
        raise HopError("unreachable", error.strerror or str(error)) from error


def ask_tunnel(line: socket.socket, proxy: Proxy, to: Place) -> Tunnel:
    """Ask a proxy for a connection; after status 200 the socket leads to the other end.

    Raises:
        HopError: ``silent`` or ``closed``: no answer that could be read.
    """
    head = [f"CONNECT {to} HTTP/1.1", f"Host: {to}"]
    if proxy.authorization:
        head.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        line.sendall("\r\n".join([*head, "", ""]).encode())
        lines, rest = _read_head(line)
        found = re.fullmatch(r"HTTP/1\.\d (\d{3}) ?(.*)", lines[0])
        if found is None:
            raise HopError("closed", "it does not speak HTTP: this is no proxy")
        status = int(found[1])
        fields = [row.partition(":")[::2] for row in lines[1:]]
        logins = [
            v.split()[0] for k, v in fields if k.lower() == "proxy-authenticate" and v.split()
        ]
        body = b"" if status == 200 else rest + _read_rest(line)
    except TimeoutError as error:
        raise HopError("silent", "it took the request and did not answer") from error
    except OSError as error:
        raise HopError("closed", error.strerror or "it closed the connection") from error
    return Tunnel(status=status, text=_words(found[2], body), logins=tuple(dict.fromkeys(logins)))


def _read_head(line: socket.socket) -> tuple[list[str], bytes]:
    """Return the lines of the head of an answer, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = line.recv(4096)
        if not block or len(data) > MAX_HEAD_BYTES:
            raise HopError("closed", "it closed the connection without an answer")
        data += block
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest


def _read_rest(line: socket.socket) -> bytes:
    data = b""
    with suppress(OSError):
        line.settimeout(2.0)
        while len(data) < _BODY_BYTES and (block := line.recv(4096)):
            data += block
    return data


def _words(reason: str, body: bytes) -> str:
    """Return what a proxy says to people: its status line, then the text of its page."""
    page = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<!--.*?-->", " ", body.decode("latin-1"))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>|&\w+;", " ", page))
    said = "".join(letter for letter in text if letter.isprintable()).strip()
    return f"{reason.strip()}: {said[:160]}" if said else reason.strip()


def shake_hands(line: socket.socket, place: Place, trust: ssl.SSLContext) -> ssl.SSLSocket:
    """Open TLS on a connection.

    Raises:
        HopError: ``untrusted``, ``expired``, ``wrong_name``, or ``no_tls``, ``silent``, ``closed``.
    """
    try:
        return trust.wrap_socket(line, server_hostname=place.host)
    except ssl.SSLCertVerificationError as error:
        kind = _VERIFY.get(error.verify_code, "untrusted")
        raise HopError(kind, error.verify_message) from error
    except ssl.SSLError as error:
        raise HopError("no_tls", error.reason or "it does not speak TLS") from error
    except TimeoutError as error:
        raise HopError("silent", "the TLS greeting was not answered") from error
    except OSError as error:
        raise HopError("closed", "the connection was cut at the TLS greeting") from error


def look_at_certificate(line: socket.socket, place: Place) -> bytes:
    """Return the certificate that the other end shows, in DER; it is looked at and not trusted.

    Nothing is sent on this connection but the TLS greeting.

    Raises:
        HopError: As `shake_hands`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with shake_hands(line, place, context) as opened:
        return opened.getpeercert(binary_form=True) or b""


def wait_for_cut(line: ssl.SSLSocket, url: str, *, longest_s: float) -> float | None:
    """Ask the hub one thing, then be silent; return after how many seconds the line was cut.

    None if it was still open in the end.

    Raises:
        HopError: ``silent`` or ``closed``: the first question was not answered.
    """
    parts = urlsplit(url)
    asked = f"GET {parts.path}/v1/challenge HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
    try:
        line.sendall(asked.encode())
        lines, rest = _read_head(line)
        sizes = [int(row[15:]) for row in lines if row.lower().startswith("content-length:")]
        while sizes and len(rest) < sizes[0] and (block := line.recv(4096)):
            rest += block
    except (OSError, ValueError) as error:
        raise HopError("closed", "the line was cut at the first question") from error
    begun = time.monotonic()
    line.settimeout(longest_s)
    try:
        line.recv(1)
    except TimeoutError:
        return None
    except OSError:
        pass
    return time.monotonic() - begun
