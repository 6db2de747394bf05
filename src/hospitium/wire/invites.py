"""The file with which a site begins: where the coordinator is, and how to know it again.

An invite is a secret for two days: it holds the seed of a throw-away key that may sign exactly one
enrolment request. The coordinator keeps only that key's public half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.certificates import fingerprint
from hospitium.wire.members import MAX_KEYS, Members
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text, is_time, list_of

INVITE = "invite"
LIFETIME = timedelta(hours=48)
PUBLIC_CA = ""
"""CA and fingerprint, in the invite, of a coordinator whose CA everybody trusts."""
MAX_CA_LINES = 200
"""Of a CA's certificate in PEM; one with a key of 4096 bits has about 50."""


@dataclass(frozen=True, kw_only=True)
class Invite:
    """What a site needs to find a coordinator and to know it again.

    ``tls_ca`` is the certificate, in PEM, of the CA that the coordinator's certificate is from;
    ``""`` for a CA that everybody trusts. ``token`` is the seed of the one-time key: it is left out
    of the text form.
    """

    federation: str
    site_id: str
    addresses: tuple[str, ...]
    tls_ca_sha256: str
    tls_ca: str
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


def new_invite(
    members: Members,
    *,
    site_id: str,
    addresses: Sequence[str],
    tls_ca: str = PUBLIC_CA,
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
        tls_ca_sha256=fingerprint(tls_ca) if tls_ca else PUBLIC_CA,
        tls_ca=tls_ca,
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
    fields = statement.read("ticket", data, _TICKET_CHECKS)
    del fields["kind"]
    return Ticket(**fields)


def write_invite(invite: Invite, coordinator: SigningKey) -> bytes:
    """Return the invite file. It is a secret until it was used or has expired."""
    assert coordinator.public.hex() == invite.coordinator_key
    return statement.sign(INVITE, _invite_fields(invite), coordinator)


def read_invite(data: bytes, *, now: datetime) -> Invite:
    """Read an invite file; that it came from the right person is for people to know.

    Raises:
        TrustError: It was changed on the way, its CA is not the one of its fingerprint
            (``identity``), or it is past its time (``expired``; no grace).
    """
    payload = statement.unverified(INVITE, data)
    fields = statement.read(INVITE, payload, _INVITE_CHECKS)
    del fields["kind"]
    statement.open_signed(INVITE, data, statement.keys_of(fields["coordinator_key"]))
    require_fresh(fields["expires"], now=now)
    fields["token"] = bytes.fromhex(fields["token"])
    fields["addresses"], fields["officers"] = tuple(fields["addresses"]), tuple(fields["officers"])
    fields["tls_ca"] = "".join(f"{line}\n" for line in fields["tls_ca"])
    found = fingerprint(fields["tls_ca"]) if fields["tls_ca"] else PUBLIC_CA
    if found != fields["tls_ca_sha256"]:
        raise TrustError(
            "identity",
            "The invite was refused: the CA certificate in it is not the one of its fingerprint. "
            "Nothing was sent. Ask the coordinator for a new one: `hospitium coordinator invite "
            "SITE`.",
        )
    return Invite(**fields)


def _invite_fields(invite: Invite) -> dict[str, Json]:
    return {
        **asdict(invite),
        "addresses": list(invite.addresses),
        "officers": list(invite.officers),
        "tls_ca": list(invite.tls_ca.splitlines()),
        "token": invite.token.hex(),
    }


def _invite_payload(invite: Invite) -> bytes:
    return statement.write(INVITE, _invite_fields(invite))


def require_fresh(expires: str, *, now: datetime) -> None:
    """Refuse an invite that is past its time; there is no grace.

    Raises:
        TrustError: It is (``expired``).
    """
    if now > statement.read_time(expires):
        raise TrustError(
            "expired",
            f"The invite was good until {expires}. Nothing was sent or admitted. Ask the "
            "coordinator for a new one: `hospitium coordinator invite SITE`.",
        )


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
    "tls_ca": list_of(is_text, most=MAX_CA_LINES),
    "coordinator_key": is_hex,
    "officers": lambda value: list_of(is_hex, most=MAX_KEYS)(value) and len(value) > 0,
    "threshold": is_count,
    "members_epoch": is_count,
    "expires": is_time,
    "token": is_hex,
}
