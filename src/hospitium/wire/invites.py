"""Joining a federation: one file, one request, six words on the telephone.

An invite is a secret for two days: it holds the seed of a throw-away key that may sign exactly one
enrolment request. The coordinator keeps only that key's public half. The site makes its own keys
and sends their public halves, each with a signature that proves that the site holds the private
one. Whoever changes a request on its way changes its six words too.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.canonical import digest
from hospitium.wire.members import MAX_KEYS, Member, Members
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text, is_time, list_of

INVITE, REQUEST = "invite", "enrolment"
LIFETIME = timedelta(hours=48)
PUBLIC_CA = ""
"""The CA fingerprint of a coordinator whose certificate is from a CA that everybody trusts."""
NUM_WORDS = 6

_FIRST, _VOWELS, _LAST = "bklmrstv", "aiou", "ns"


@dataclass(frozen=True, kw_only=True)
class Invite:
    """What a site needs to find a coordinator and to know it again.

    ``token`` is the seed of the one-time key: its text form is left out of ours.
    """

    federation: str
    site_id: str
    addresses: tuple[str, ...]
    tls_ca_sha256: str
    coordinator_key: str
    officers: tuple[str, ...]
    threshold: int
    members_epoch: int
    expires: str
    token: bytes = field(repr=False)

    @property
    def token_key(self) -> str:
        """The public half of the one-time key: all that the coordinator keeps of it."""
        return SigningKey.from_bytes(self.token).public.hex()


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What the coordinator remembers of an invite: whom it was for, and until when it is good."""

    federation: str
    site_id: str
    coordinator_key: str
    token_key: str
    expires: str


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


def new_invite(
    members: Members,
    *,
    site_id: str,
    addresses: Sequence[str],
    tls_ca_sha256: str,
    now: datetime,
) -> Invite:
    """Return an invite for a site, good for 48 hours, with a fresh one-time key.

    Raises:
        TrustError: The name or an address is none that an invite may hold (``fields``).
    """
    invite = Invite(
        federation=members.federation,
        site_id=site_id,
        addresses=tuple(addresses),
        tls_ca_sha256=tls_ca_sha256,
        coordinator_key=members.coordinator_keys[0],
        officers=members.officers,
        threshold=members.threshold,
        members_epoch=members.members_epoch,
        expires=statement.time_text(now + LIFETIME),
        token=SigningKey.generate().to_bytes(),
    )
    statement.read(INVITE, _invite_payload(invite), _INVITE_CHECKS)
    return invite


def ticket_of(invite: Invite) -> Ticket:
    """Return what the coordinator keeps; the secret of the invite is not in it."""
    return Ticket(
        federation=invite.federation,
        site_id=invite.site_id,
        coordinator_key=invite.coordinator_key,
        token_key=invite.token_key,
        expires=invite.expires,
    )


def write_ticket(ticket: Ticket) -> bytes:
    """Return a ticket as a statement."""
    return statement.write("ticket", asdict(ticket))


def read_ticket(data: bytes) -> Ticket:
    """Read what `write_ticket` wrote."""
    return Ticket(**_without_kind(statement.read("ticket", data, _TICKET_CHECKS)))


def write_invite(invite: Invite, coordinator: SigningKey) -> bytes:
    """Return the invite file. It is a secret until it was used or has expired."""
    assert coordinator.public.hex() == invite.coordinator_key
    return statement.sign(INVITE, _invite_fields(invite), coordinator)


def read_invite(data: bytes, *, now: datetime) -> Invite:
    """Read an invite file; that it came from the right person is for people to know.

    Raises:
        TrustError: It was changed on the way, or is past its time (``expired``; no grace).
    """
    payload = statement.unverified(INVITE, data)
    fields = _without_kind(statement.read(INVITE, payload, _INVITE_CHECKS))
    statement.open_signed(INVITE, data, statement.keys_of(fields["coordinator_key"]))
    _require_fresh(fields["expires"], now=now)
    fields["token"] = bytes.fromhex(fields["token"])
    fields["addresses"], fields["officers"] = tuple(fields["addresses"]), tuple(fields["officers"])
    return Invite(**fields)


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
    asked = Request(**_without_kind(statement.read(REQUEST, payload, _REQUEST_CHECKS)))
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
    _require_fresh(ticket.expires, now=now)
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
    typed = " ".join(re.findall(r"[a-z]+", heard.lower()))
    if not hmac.compare_digest(typed.encode(), " ".join(request.words).encode()):
        raise TrustError(
            "words",
            f"The words for {request.site_id} are not those of the request that came in. The site "
            "is not admitted. Have them read out once more, from the site's own screen; if they "
            "differ again, somebody changed the request on its way: revoke the invite, make a new "
            "one and bring it by another way.",
        )


def words(digest_text: str) -> tuple[str, ...]:
    """Return six words for the first 66 bits of a SHA-256 digest.

    Example:
        >>> words("00" * 32), words("ff" * 32)[-1]
        (('baban', 'baban', 'baban', 'baban', 'baban', 'baban'), 'vuvus')
    """
    bits = int(digest_text, 16) >> (256 - 11 * NUM_WORDS)
    numbers = [bits >> (11 * place) & 0x7FF for place in reversed(range(NUM_WORDS))]
    return tuple(word(number) for number in numbers)


def word(number: int) -> str:
    """Return one of 2,048 words, each of five letters that are told apart on the telephone."""
    rest, last = divmod(number, 2)
    rest, second_vowel = divmod(rest, 4)
    rest, second = divmod(rest, 8)
    first, first_vowel = divmod(rest, 4)
    return (
        _FIRST[first] + _VOWELS[first_vowel] + _FIRST[second] + _VOWELS[second_vowel] + _LAST[last]
    )


def _invite_fields(invite: Invite) -> dict[str, Json]:
    return {
        **asdict(invite),
        "addresses": list(invite.addresses),
        "officers": list(invite.officers),
        "token": invite.token.hex(),
    }


def _invite_payload(invite: Invite) -> bytes:
    return statement.write(INVITE, _invite_fields(invite))


def _require_fresh(expires: str, *, now: datetime) -> None:
    if now > statement.read_time(expires):
        raise TrustError(
            "expired",
            f"The invite was good until {expires}. Nothing was sent or admitted. Ask the "
            "coordinator for a new one: `hospitium coordinator invite SITE`.",
        )


def _without_kind(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "kind"}


def _is_address(value: Any) -> bool:
    """Whether a value is an HTTPS address without a login in it."""
    try:
        parts = urlsplit(value) if is_text(value) else None
        return bool(
            parts and parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
        )
    except ValueError:
        return False


def _is_fingerprint(value: Any) -> bool:
    return value == PUBLIC_CA or is_hex(value)


_TICKET_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "site_id": is_id,
    "coordinator_key": is_hex,
    "token_key": is_hex,
    "expires": is_time,
}
_INVITE_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "site_id": is_id,
    "addresses": lambda value: list_of(_is_address, most=8)(value) and len(value) > 0,
    "tls_ca_sha256": _is_fingerprint,
    "coordinator_key": is_hex,
    "officers": lambda value: list_of(is_hex, most=MAX_KEYS)(value) and len(value) > 0,
    "threshold": is_count,
    "members_epoch": is_count,
    "expires": is_time,
    "token": is_hex,
}
_REQUEST_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "coordinator_key": is_hex,
    "site_id": is_id,
    "legal_entity": is_text,
    "signing_key": is_hex,
    "request_key": is_hex,
    "token_key": is_hex,
}
