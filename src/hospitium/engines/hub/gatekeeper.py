"""What stands before every route: sizes, signature, and how much a caller may ask.

Only a challenge is given to somebody unknown. Everything is checked from the request line and the
headers; no byte of a body was read when a request is refused here.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from hospitium.engines.hub.errors import error_response
from hospitium.engines.hub.limits import Crowd, Limits, Meter
from hospitium.engines.hub.requests import HEADER, Question, Verifier
from hospitium.errors import HubError

MAX_PATH_BYTES = 512
MAX_HEADERS = 64
DAY_S = 86_400.0


class Gatekeeper:
    """Wraps the routes: whatever passes is signed by a member and within its limits."""

    def __init__(self, app: ASGIApp, *, verifier: Verifier, limits: Limits) -> None:
        self._app = app
        self._verifier = verifier
        self._largest = max(limits.statement_bytes, 1 << 20)
        self._unsigned = Meter(per_s=limits.unsigned_per_s, burst=limits.unsigned_burst)
        self._requests = Meter(per_s=limits.requests_per_s, burst=limits.burst)
        self._bytes = Meter(per_s=limits.bytes_per_day / DAY_S, burst=limits.bytes_per_day)
        self._crowd = Crowd(at_once=limits.at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] != "http":
            return
        address = str((scope.get("client") or ("unknown",))[0])
        try:
            question, size = self._measure(scope)
            if question == Question(method="GET", path="/v1/challenge"):
                self._unsigned.take(address)
                await self._app(scope, receive, send)
                return
            site_id = self._admit(scope, question, address)
            self._requests.take(site_id)
            self._bytes.take(site_id, size)
            with self._crowd.inside(site_id):
                await self._app(scope, receive, send)
        except HubError as error:
            is_unread = error.status in (411, 413, 431)
            await error_response(error, close=is_unread)(scope, receive, send)

    def _measure(self, scope: Scope) -> tuple[Question, int]:
        """Return what is asked and how large its body will be, if neither is too large."""
        path, query = scope["raw_path"], scope["query_string"]
        if len(path) + len(query) > MAX_PATH_BYTES or len(scope["headers"]) > MAX_HEADERS:
            raise HubError("size", "The path or the headers are too long.", status=431)
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            raise HubError("size", "The length of a body must be stated.", status=411)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 15 or int(length) > self._largest:
            raise HubError("size", "The body is too large.", status=413)
        question = Question(
            method=scope["method"], path=path.decode("latin-1"), query=query.decode("latin-1")
        )
        return question, int(length)

    def _admit(self, scope: Scope, question: Question, address: str) -> str:
        """Return the site that signed; an address that fails too often has to wait."""
        header = dict(scope["headers"]).get(HEADER.encode(), b"").decode("latin-1")
        try:
            caller = self._verifier.admit(header, question)
        except HubError:
            self._unsigned.take(address)
            raise
        scope["hospitium.caller"] = caller
        return caller.site_id
