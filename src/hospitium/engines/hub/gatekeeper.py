"""What stands before every route: sizes, signature, and how much a caller may ask.

Only a challenge is given to somebody unknown, and an enrolment request is taken, which the key of
an invite has signed. Everything is checked from the request line and the headers; no byte of a body
was read when a request is refused here.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from hospitium.engines.hub.errors import error_response
from hospitium.engines.hub.limits import Crowd, Limits, Meter
from hospitium.engines.hub.refusals import Refusals
from hospitium.engines.hub.requests import HEADER, Caller, Question, Verifier
from hospitium.errors import HospitiumError, HubError
from hospitium.state.unfinished import MAX_CHUNK_BYTES

MAX_PATH_BYTES = 512
MAX_FIELDS_BYTES = 1 << 15
"""Of all names and values; the protocol's own limit depends on how a head comes in."""
MAX_HEADERS = 64
DAY_S = 86_400.0
ENROLLING_AT_ONCE = 4

_CHALLENGE = Question(method="GET", path="/v1/challenge")
_ENROLMENT = Question(method="POST", path="/v1/enrolments")


class Gatekeeper:
    """Wraps the routes: whatever passes is signed by a member and within its limits.

    Args:
        app: The routes.
        verifier: Says who signed.
        limits: What a caller may do.
        is_enrolling: Whether there is a desk that takes enrolment requests.
        refusals: Where it is noted who was refused what.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verifier: Verifier,
        limits: Limits,
        is_enrolling: bool = False,
        refusals: Refusals | None = None,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._largest = _largest_bodies(limits)
        self._is_enrolling = is_enrolling
        self._unsigned = Meter(per_s=limits.unsigned_per_s, burst=limits.unsigned_burst)
        self._enrolments = Meter(per_s=limits.enrolments_per_s, burst=limits.enrolments_burst)
        self._requests = Meter(per_s=limits.requests_per_s, burst=limits.burst)
        self._bytes = Meter(per_s=limits.bytes_per_day / DAY_S, burst=limits.bytes_per_day)
        self._crowd = Crowd(at_once=limits.at_once)
        self._enrolling = Crowd(at_once=ENROLLING_AT_ONCE)
        self._refusals = refusals or Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] != "http":
            return
        address = str((scope.get("client") or ("unknown",))[0])
        line = f"{scope['method']} {scope['path']}"
        send = self._refusals.watching(send, who=lambda: _who(scope, address), question=line)
        try:
            question, size = self._measure(scope)
            if question == _CHALLENGE:
                self._unsigned.take(address)
                await self._app(scope, receive, send)
            elif question == _ENROLMENT and self._is_enrolling:
                self._enrolments.take(address)
                with self._enrolling.inside(address):
                    await self._app(scope, receive, send)
            else:
                caller = self._admit(scope, question, address)
                self._count(caller, size)
                with self._crowd.inside(_name(caller)):
                    await self._app(scope, receive, send)
        except HospitiumError as error:
            is_unread = isinstance(error, HubError) and error.status in (411, 413, 431)
            await error_response(error, close=is_unread)(scope, receive, send)

    def _measure(self, scope: Scope) -> tuple[Question, int]:
        """Return what is asked and how large its body will be, if neither is too large."""
        path, query = scope["raw_path"], scope["query_string"]
        head_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
        is_long = len(scope["headers"]) > MAX_HEADERS or head_bytes > MAX_FIELDS_BYTES
        if len(path) + len(query) > MAX_PATH_BYTES or is_long:
            raise HubError("size", "The path or the headers are too long.", status=431)
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            raise HubError("size", "The length of a body must be stated.", status=411)
        question = Question(
            method=scope["method"], path=path.decode("latin-1"), query=query.decode("latin-1")
        )
        length = headers.get(b"content-length", b"0")
        largest = self._largest.get(question.path, self._largest[""])
        if not length.isdigit() or len(length) > 15 or int(length) > largest:
            raise HubError("size", "The body is too large.", status=413)
        return question, int(length)

    def _admit(self, scope: Scope, question: Question, address: str) -> Caller:
        """Return who signed; an address that fails too often has to wait."""
        header = dict(scope["headers"]).get(HEADER.encode(), b"").decode("latin-1")
        try:
            caller = self._verifier.admit(header, question)
        except HubError:
            self._unsigned.take(address)
            raise
        scope["hospitium.caller"] = caller
        return caller

    def _count(self, caller: Caller, size: int) -> None:
        """Take from what a caller may ask; who is no member yet has the smaller allowance."""
        if caller.is_member:
            self._requests.take(_name(caller))
            self._bytes.take(_name(caller), size)
        else:
            self._unsigned.take(_name(caller))


def _who(scope: Scope, address: str) -> str:
    """Return who asks, as it is noted: the site that signed, or else the address."""
    caller = scope.get("hospitium.caller")
    return address if caller is None else _name(caller)


def _name(caller: Caller) -> str:
    """Return under which name a caller's requests are counted; no address looks like it."""
    return caller.site_id if caller.is_member else f"{caller.site_id} who asks to join"


def _largest_bodies(limits: Limits) -> dict[str, int]:
    """Return how large a body may be, by path; the rest is under an empty one."""
    small = ("/v1/enrolments", "/v1/said", "/v1/heartbeat")
    return {
        "": max(limits.statement_bytes, MAX_CHUNK_BYTES),
        "/v1/echo": limits.echo_bytes,
        **dict.fromkeys(small, limits.small_bytes),
    }
