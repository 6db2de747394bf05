"""One signed request to the hub, made again for as long as it takes or as one has patience."""

from __future__ import annotations

import hashlib
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import httpx

from hospitium.engines.hub.connection import Connection, open_http
from hospitium.engines.hub.hearing import CHALLENGE, bounded, error_words, table
from hospitium.engines.hub.pace import Pace
from hospitium.engines.hub.requests import HEADER, Question, Signer
from hospitium.errors import HubError
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

CHALLENGE_S = 240.0
"""A challenge is changed before the hub would refuse it."""

SLICE_BYTES = 1 << 16
"""What is sent at once where the line has a limit."""

_NOTHING = digest(b"")
_Found = TypeVar("_Found")


class StoppedError(Exception):
    """The site is being stopped; whatever was under way is kept on disk."""


class Asker:
    """Asks one hub in the name of one key; each thread needs one of its own.

    Args:
        connection: How to reach the hub.
        key: The key that signs the requests.
        stop: Ends every wait, with `StoppedError`.
        log: Told in words why a request is made again; for the site's own staff.
        pace: How fast the line may be used.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        key: SigningKey,
        stop: threading.Event | None = None,
        log: Callable[[str], None] = lambda text: None,
        pace: Pace | None = None,
    ) -> None:
        self.connection = connection
        self.log = log
        self._key = key
        self._stop = stop or threading.Event()
        self._pace = pace or Pace()
        self._signer: Signer | None = None
        self._signer_until = 0.0
        self._addresses = (connection.url, *connection.others)
        self._address = 0
        self._http = open_http(connection)
        self._socket: Any = None

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._http.close()

    def interrupt(self) -> None:
        """End the wait of another thread in this asker; its request is made again, or stopped."""
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def ask(
        self,
        question: Question,
        *,
        content: bytes = b"",
        content_sha256: str = "",
        timeout_s: float | None = None,
        is_signed: bool = True,
        tries: float = math.inf,
    ) -> httpx.Response:
        """Ask until the hub has answered; return an answer that is no refusal.

        Args:
            question: What is asked.
            content: The body.
            content_sha256: Its digest, from a caller that has computed it.
            timeout_s: Silence that is borne; None: the connection's.
            is_signed: Whether the header says who asks.
            tries: After so many without an answer of the hub it ends as with no more patience.

        Raises:
            HubError: The hub refused, or patience came to its end (``unreachable``).
            StoppedError: The site is being stopped.
        """
        return self.again(
            lambda: self.once(
                question,
                content=content,
                content_sha256=content_sha256,
                timeout_s=timeout_s,
                is_signed=is_signed,
            ),
            tries=tries,
        )

    def once(
        self,
        question: Question,
        *,
        content: bytes = b"",
        content_sha256: str = "",
        timeout_s: float | None = None,
        is_signed: bool = True,
    ) -> httpx.Response:
        """Ask once; see `ask`, which does so until there is an answer.

        Raises:
            HubError: The hub refused, or something in between did.
            httpx.TransportError: There was no answer.
        """
        content_sha256 = content_sha256 or hashlib.sha256(content).hexdigest()
        headers = self._headers(question, content_sha256) if is_signed else {}
        headers["content-length"] = str(len(content))
        with self._http.stream(
            question.method,
            f"{question.path}?{question.query}" if question.query else question.path,
            content=self._slices(content) if content else None,
            headers=headers,
            timeout=timeout_s or self.connection.timeout_s,
            extensions={"trace": self._trace},
        ) as coming:
            response = bounded(coming, question.path)
        self._wait(self._pace.down(len(response.content)))
        if response.status_code >= 300:
            raise error_of(response)
        return response

    @contextmanager
    def stream(self, question: Question, *, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Ask once, for a body that is read as it comes."""
        signed = self._headers(question, _NOTHING)
        with self._http.stream(
            question.method,
            question.path,
            headers={**signed, **headers},
            extensions={"trace": self._trace},
        ) as response:
            yield response

    def blocks(self, response: httpx.Response, size: int | None) -> Iterator[bytes]:
        """Yield a body in blocks, or as it comes, as fast as the line may be used."""
        for block in response.iter_raw(size):
            self._wait(self._pace.down(len(block)))
            yield block

    def again(self, once: Callable[[], _Found], *, tries: float = math.inf) -> _Found:
        """Do something until the hub has answered, with longer and longer pauses."""
        failures = unsigned = 0
        until = time.monotonic() + self.connection.patience_s
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                return once()
            except httpx.TransportError as error:
                self._signer = None  # the hub may have been started anew
                self._try_next_address()
                failures += 1
                found = f"{type(error).__name__}: {error}".removesuffix(": ")
                if _is_told(failures):
                    self.log(f"no answer from the hub, try {failures}: {found}")
                if time.monotonic() > until or failures >= tries:
                    raise _unreachable(found) from error
                self._pause(failures)
            except HubError as error:
                unsigned += error.status == 401
                if error.status == 401 and unsigned <= 2:
                    self._signer = None
                    continue
                failures += 1
                is_last = error.reason == "unreachable" and failures >= tries
                if not _may_pass(error) or is_last or time.monotonic() > until:
                    raise
                if _is_told(failures):
                    self.log(f"the hub asks to wait, try {failures}: {error.reason}: {error}")
                self._pause(failures, error.retry_after_s)

    # --- inside ---------------------------------------------------------------------------------

    def _headers(self, question: Question, content_sha256: str) -> dict[str, str]:
        """Return the header that signs a request, with a challenge that is fresh enough."""
        if self._signer is None or time.monotonic() > self._signer_until:
            path, trace = "/v1/challenge", {"trace": self._trace}
            with self._http.stream("GET", path, extensions=trace) as coming:
                response = bounded(coming, path)
            if response.status_code != 200:
                raise error_of(response)
            self._signer = Signer(self._key, table(response.content, CHALLENGE)["challenge"])
            self._signer_until = time.monotonic() + CHALLENGE_S
        return {HEADER: self._signer.header(question, content_sha256=content_sha256)}

    def _slices(self, content: bytes) -> Iterator[bytes]:
        """Yield a body: whole, or in slices where the line has a limit."""
        size = SLICE_BYTES if self._pace.bytes_per_s else len(content)
        for start in range(0, len(content), size):
            part = content[start : start + size]
            self._wait(self._pace.up(len(part)))
            yield part

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds) if seconds else self._stop.is_set():
            raise StoppedError

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket, so that a wait can be ended; begin none after the stop."""
        if event.endswith("send_request_headers.started") and self._stop.is_set():
            raise StoppedError  # `interrupt` may have come before there was a socket
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    def _try_next_address(self) -> None:
        self._address = (self._address + 1) % len(self._addresses)
        self._http.base_url = httpx.URL(self._addresses[self._address])

    def _pause(self, failures: int, least_s: float = 0.0) -> None:
        """Wait before the next try; a little of it is chance, so that sites do not come at once."""
        longest_s = self.connection.longest_pause_s
        pause_s = min(longest_s, 0.1 * 2 ** min(failures, 16)) * random.uniform(0.5, 1.0)
        self._wait(max(least_s, pause_s))


def error_of(response: httpx.Response) -> HubError:
    """Return what the hub, or a proxy in between, said."""
    try:
        reason, words = error_words(response.content)
    except HubError:
        reason, words = "unreachable", f"Something answered {response.status_code}, not the hub."
    wait = response.headers.get("retry-after", "0")
    return HubError(
        reason,
        words,
        status=response.status_code,
        retry_after_s=float(min(3600, int(wait[:9]))) if _is_number(wait) else 0.0,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_told(failures: int) -> bool:
    """Whether this try is worth a line in the log: 1, 2, 4, 8, ... of a long outage are."""
    return failures & (failures - 1) == 0


def _may_pass(error: HubError) -> bool:
    """Whether trying again later may help."""
    if error.status == 413:  # whoever says so, the same body is too large again
        return False
    return error.reason == "unreachable" or error.status in (408, 429) or error.status >= 500


def _unreachable(found: str) -> HubError:
    return HubError(
        "unreachable",
        f"The hub gave no answer ({found}). Nothing was lost; the same again does no harm. The "
        "site's IT: `hospitium doctor` names the first hop that fails.",
    )
