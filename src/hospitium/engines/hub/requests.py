"""Signed requests: who asks is said by a key and nothing else, and once said cannot be said again.

A header holds a DSSE statement over method, path, query, the SHA-256 of the body, a challenge of
this hub and a counter. Each counter is taken once within a challenge; requests may arrive out of
order within a window of 1,024. (No kept library signs as RFC 9421 says; the fields are its own.)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hospitium.errors import HubError, UpdateError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.signing import SigningKey, VerifyKey, dsse_sign, dsse_signers

HEADER = "hospitium-request"
TYPE = "application/vnd.hospitium.request+json"
WINDOW = 1024
CHALLENGE_S = 300.0
MAX_CHALLENGES = 8
"""Challenges that one key may use at a time; an older one is refused from then on."""

_FIELDS = {
    "challenge": str,
    "content_sha256": str,
    "counter": int,
    "method": str,
    "path": str,
    "query": str,
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A site as the hub knows it: the key that signs its requests, and that of its statements."""

    request_key: VerifyKey
    signing_key: VerifyKey


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who signed a request, and the SHA-256 of the body that was signed, in hexadecimal.

    Who is no member has asked to be one, and waits for it.
    """

    site_id: str
    content_sha256: str
    is_member: bool = True


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: method, path and query as they stand in the request line."""

    method: str
    path: str
    query: str = ""


OPEN_TO_APPLICANTS = (("GET", "/v1/members"),)
"""What a site may ask whose enrolment request came in and which is not admitted yet."""


class Signer:
    """Signs a site's requests under one challenge; safe to use from several threads."""

    def __init__(self, key: SigningKey, challenge: str) -> None:
        self._key = key
        self._challenge = challenge
        self._counter = 0
        self._lock = threading.Lock()

    def header(self, question: Question, *, content_sha256: str) -> str:
        """Return the header of one request; each call gives another, good for once."""
        with self._lock:
            self._counter += 1
            counter = self._counter
        payload = canonical_json(
            {
                "challenge": self._challenge,
                "content_sha256": content_sha256,
                "counter": counter,
                "method": question.method,
                "path": question.path,
                "query": question.query,
            }
        )
        return base64.b64encode(dsse_sign(TYPE, payload, self._key)).decode()


@dataclass(kw_only=True)
class ReplayWindow:
    """Which counters were used: the newest ones as bits, and everything before them as used."""

    newest: int = 0
    bits: int = 0

    def take(self, counter: int) -> bool:
        """Use a counter; False if it was used, or is too old to know."""
        if counter > self.newest:
            shift = min(counter - self.newest, WINDOW)
            self.bits = ((self.bits << shift) | 1) & ((1 << WINDOW) - 1)
            self.newest = counter
            return True
        if counter < 1 or self.newest - counter >= WINDOW:
            return False
        bit = 1 << (self.newest - counter)
        if self.bits & bit:
            return False
        self.bits |= bit
        return True


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Whose key a signature may be of."""

    site_id: str
    key: VerifyKey
    is_member: bool


@dataclass(kw_only=True)
class _Used:
    """The challenges that a key uses, and since when older ones are refused."""

    windows: dict[str, ReplayWindow] = field(default_factory=dict)
    not_before_s: float = -1.0


class Verifier:
    """Says who signed a request. It holds no state but what keeps a request from being repeated.

    Args:
        members: Who may ask; looked up at each request, so that a revoked site is refused at once.
        applicants: Returns the request keys of sites that may ask what is `OPEN_TO_APPLICANTS`.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        *,
        applicants: Callable[[], Mapping[str, VerifyKey]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = members
        self._applicants = applicants
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._used: dict[str, _Used] = {}
        self._lock = threading.Lock()

    def challenge(self) -> str:
        """Return 256 bits, good for five minutes at this hub and nowhere else; none is stored."""
        head = round(self._clock() * 1000).to_bytes(8, "big") + secrets.token_bytes(8)
        return (head + self._seal(head)).hex()

    def admit(self, header: str, question: Question) -> Caller:
        """Return who signed this request.

        Raises:
            HubError: Status 401: nobody that this hub knows did, or not now, or it was used before.
        """
        known = self._known(question)
        key_id, fields = self._signed(header, known)
        if Question(**{name: fields[name] for name in ("method", "path", "query")}) != question:
            raise refused("signature", "The request is not the one that was signed.")
        issued_s = self._issued(fields["challenge"])
        with self._lock:
            if not self._take(key_id, fields["challenge"], issued_s, fields["counter"]):
                raise refused("challenge", "The request was used before, or is too old.")
        return Caller(
            site_id=known[key_id].site_id,
            content_sha256=fields["content_sha256"],
            is_member=known[key_id].is_member,
        )

    def _known(self, question: Question) -> dict[str, _Known]:
        """Return whose signature this may bear, by key id."""
        found: dict[str, _Known] = {}
        if (question.method, question.path) in OPEN_TO_APPLICANTS:
            for site_id, key in self._applicants().items():
                found[key.key_id] = _Known(site_id=site_id, key=key, is_member=False)
        for site_id, member in list(self._members.items()):
            key = member.request_key
            found[key.key_id] = _Known(site_id=site_id, key=key, is_member=True)
        return found

    @staticmethod
    def _signed(header: str, known: Mapping[str, _Known]) -> tuple[str, dict[str, Any]]:
        """Return the id of the key that signed the statement, and what it says."""
        try:
            payload, signers = dsse_signers(
                base64.b64decode(header, validate=True),
                {key_id: one.key for key_id, one in known.items()},
                payload_type=TYPE,
            )
            fields = json.loads(payload)
            if canonical_json(fields) != payload or len(signers) != 1 or not _is_complete(fields):
                raise ValueError("fields")
        except (UpdateError, binascii.Error, ValueError, RecursionError):
            raise refused("signature", "The request is not signed by a known key.") from None
        return next(iter(signers)), fields

    def _issued(self, challenge: str) -> float:
        """Return when this hub gave out a challenge."""
        try:
            data = bytes.fromhex(challenge)
        except ValueError:
            data = b""
        if (
            len(data) != 32
            or data.hex() != challenge
            or not hmac.compare_digest(self._seal(data[:16]), data[16:])
        ):
            raise refused("challenge", "The challenge is not of this hub, or of an earlier start.")
        issued_s = int.from_bytes(data[:8], "big") / 1000
        if self._clock() - issued_s > CHALLENGE_S:
            raise refused("challenge", "The challenge is too old.")
        return issued_s

    def _take(self, key_id: str, challenge: str, issued_s: float, counter: int) -> bool:
        """Use a counter of a challenge; the key's oldest challenges make room for new ones."""
        used = self._used.setdefault(key_id, _Used())
        if challenge not in used.windows:
            if issued_s <= used.not_before_s:
                return False
            used.windows[challenge] = ReplayWindow()
            while len(used.windows) > MAX_CHALLENGES:
                oldest = min(used.windows, key=self._issued_unchecked)
                used.not_before_s = max(used.not_before_s, self._issued_unchecked(oldest))
                del used.windows[oldest]
        window = used.windows.get(challenge)
        return window is not None and window.take(counter)

    @staticmethod
    def _issued_unchecked(challenge: str) -> float:
        return int.from_bytes(bytes.fromhex(challenge)[:8], "big") / 1000

    def _seal(self, head: bytes) -> bytes:
        return hmac.digest(self._secret, head, hashlib.sha256)[:16]


def refused(reason: str, message: str) -> HubError:
    """Return the error of a request whose signer is not known."""
    return HubError(
        reason,
        f"{message} Nothing was done. The site: take a new challenge and sign again; if that does "
        "not help, the coordinator must look at the member list.",
        status=401,
    )


def _is_complete(fields: object) -> bool:
    return (
        isinstance(fields, dict)
        and set(fields) == set(_FIELDS)
        and all(type(fields[name]) is kind for name, kind in _FIELDS.items())
        and fields["counter"] < 1 << 53
    )
