"""Asking to join: a site's keys, signed by each of them and by the one-time key of its invite.

Whoever changes a request on its way changes its six words too, which are compared by telephone.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import asdict, dataclass
from datetime import datetime

from hospitium.errors import TrustError
from hospitium.wire import statement
from hospitium.wire.canonical import digest
from hospitium.wire.invites import Invite, Ticket, require_fresh
from hospitium.wire.members import Member, Members
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import Check, is_hex, is_id, is_text
from hospitium.wire.words import words

REQUEST = "enrolment"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a site asks when it wants to join; ``digest`` names it, ``words`` say it."""

    federation: str
    coordinator_key: str
    site_id: str
    legal_entity: str
    signing_key: str
    request_key: str
    token_key: str

    @property
    def digest(self) -> str:
        """SHA-256 of the signed bytes."""
        return digest(statement.write(REQUEST, asdict(self)))

    @property
    def words(self) -> tuple[str, ...]:
        """Six words: the first 66 bits of the digest."""
        return words(self.digest)

    @property
    def member(self) -> Member:
        """The row that the member list would have."""
        return Member(
            site_id=self.site_id,
            legal_entity=self.legal_entity,
            signing_key=self.signing_key,
            request_key=self.request_key,
        )


def sign_request(
    invite: Invite, *, legal_entity: str, signing: SigningKey, request: SigningKey
) -> bytes:
    """Return a site's enrolment request, signed by both of its keys and by the one-time key.

    Args:
        invite: The invite.
        legal_entity: The institution's legal name, in ASCII; one place on the list for each.
        signing: The site's signing key, which never leaves the site.
        request: The site's request key, likewise.
    """
    asked = Request(
        federation=invite.federation,
        coordinator_key=invite.coordinator_key,
        site_id=invite.site_id,
        legal_entity=legal_entity,
        signing_key=signing.public.hex(),
        request_key=request.public.hex(),
        token_key=invite.token_key,
    )
    token = SigningKey.from_bytes(invite.token)
    return statement.sign(REQUEST, asdict(asked), signing, request, token)


def read_request(envelope: bytes) -> Request:
    """Read an enrolment request whose three signatures hold; whether it was invited, is not seen.

    Raises:
        TrustError: It is not what `sign_request` writes.
    """
    payload = statement.unverified(REQUEST, envelope)
    fields = statement.read(REQUEST, payload, _REQUEST_CHECKS)
    del fields["kind"]
    asked = Request(**fields)
    keys = statement.keys_of(asked.signing_key, asked.request_key, asked.token_key)
    if len(keys) != 3:
        raise TrustError("key_reused", "An enrolment request was refused: a key is in it twice.")
    _, signers = statement.open_signed(REQUEST, envelope, keys)
    if len(signers) != 3:
        raise TrustError(
            "threshold",
            "An enrolment request was refused: it does not prove that it holds its keys.",
        )
    return asked


def check_request(envelope: bytes, *, ticket: Ticket, members: Members, now: datetime) -> Request:
    """Return an enrolment request that this invite allows; whether it was used, is not seen here.

    Args:
        envelope: What came in.
        ticket: What the coordinator kept of the invite of this one-time key.
        members: The member list in force.
        now: The time, UTC.

    Raises:
        TrustError: It is another federation's (``federation``), another site's or another
            invite's (``identity``), too late (``expired``), or a key of it is taken
            (``key_reused``).
    """
    asked = read_request(envelope)
    if (asked.federation, asked.coordinator_key) != (ticket.federation, ticket.coordinator_key):
        raise TrustError("federation", "An enrolment request for another federation was refused.")
    if (asked.site_id, asked.token_key) != (ticket.site_id, ticket.token_key):
        raise TrustError("identity", "An enrolment request was refused: the invite is another's.")
    require_fresh(ticket.expires, now=now)
    if {asked.signing_key, asked.request_key} & {*members.active_keys, *members.retired_keys}:
        raise TrustError(
            "key_reused",
            f"The enrolment request of {asked.site_id} was refused: one of its keys is, or was, on "
            "the member list. Each site makes keys of its own, and new ones each time it enrols.",
        )
    return asked


def require_words(request: Request, heard: str) -> None:
    """Refuse a request whose words are not those that were heard on the telephone.

    Raises:
        TrustError: They differ (``words``).
    """
    words = re.findall(r"[a-z]+", heard.lower())
    if len(words) != len(request.words):
        raise TrustError(
            "words",
            f"{len(words)} words were typed for {request.site_id}, not {len(request.words)}. The "
            "site is not admitted. Have all of them read out once more, and type them in order.",
        )
    typed = " ".join(words)
    if not hmac.compare_digest(typed.encode(), " ".join(request.words).encode()):
        raise TrustError(
            "words",
            f"The words for {request.site_id} are not those of the request that came in. The site "
            "is not admitted. Have them read out once more, from the site's own screen; if they "
            "differ again, somebody changed the request on its way: revoke the invite, make a new "
            "one and bring it by another way.",
        )


_REQUEST_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "coordinator_key": is_hex,
    "site_id": is_id,
    "legal_entity": is_text,
    "signing_key": is_hex,
    "request_key": is_hex,
    "token_key": is_hex,
}
