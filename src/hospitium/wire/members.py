"""The member list: who belongs to a federation, signed by its officers, each list on the last one.

A list names the digest of the one before it. A reader goes from list to list, one epoch at a time,
and never back. A key that was once taken off the list never comes back either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text, is_time, list_of

KIND = "members"
NO_LIST = ""
"""The digest before the first list."""
FULL_WEIGHT = 1000
MAX_SITES, MAX_KEYS, MAX_RETIRED = 1000, 32, 10_000

Purpose = Literal["signing", "request"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One site: its keys (public, hexadecimal), and the most weight it may have, in thousandths."""

    site_id: str
    legal_entity: str
    signing_key: str
    request_key: str
    weight_cap: int = FULL_WEIGHT
    witness: bool = True


@dataclass(frozen=True, kw_only=True)
class Members:
    """One member list; ``retired_keys`` are all keys that were ever taken off."""

    federation: str
    members_epoch: int
    previous_digest: str
    valid_until: str
    officers: tuple[str, ...]
    threshold: int
    coordinator_keys: tuple[str, ...]
    min_sites: int
    sites: tuple[Member, ...] = ()
    retired_keys: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Json]:
        """The list as plain JSON: what is signed."""
        return {
            **asdict(self),
            "officers": list(self.officers),
            "coordinator_keys": list(self.coordinator_keys),
            "sites": [asdict(site) for site in self.sites],
            "retired_keys": list(self.retired_keys),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the signed bytes: what the next list and every approval name."""
        return digest(statement.write(KIND, self.fields))

    def site(self, site_id: str) -> Member:
        """Return a member.

        Raises:
            TrustError: There is none of this name (``members``).
        """
        for member in self.sites:
            if member.site_id == site_id:
                return member
        raise TrustError(
            "members",
            f"{site_id[:40]!r} is not on the member list of {self.federation} "
            f"(epoch {self.members_epoch}). Nothing was changed.",
        )

    @property
    def active_keys(self) -> tuple[str, ...]:
        """Every key that this list gives power to."""
        sites = (key for site in self.sites for key in (site.signing_key, site.request_key))
        return (*self.officers, *self.coordinator_keys, *sites)


def sign_members(members: Members, *officers: SigningKey) -> bytes:
    """Return the signed list; more officers' signatures are added by ``dsse_merge``."""
    return statement.sign(KIND, members.fields, *officers)


def open_first(
    envelope: bytes, *, federation: str, officers: Sequence[str], threshold: int
) -> Members:
    """Read the first list that a site ever sees, against what its invite says.

    Args:
        envelope: The list, of any epoch.
        federation: The one of the invite.
        officers: Their public keys, of the invite.
        threshold: How many of them must have signed, of the invite.

    Raises:
        TrustError: It is another federation's, or too few of these officers signed it.
    """
    found = parse_list(envelope)
    if found.federation != federation:
        raise TrustError("federation", f"A member list of another federation than {federation}.")
    _require_signers(envelope, found, officers=officers, threshold=threshold)
    return found


def follow(current: Members, envelopes: Iterable[bytes]) -> Members:
    """Go on from one list to the newest of these, each on the one before it.

    The list in force may come again; an older one may not be the last.

    Args:
        current: The list in force.
        envelopes: Signed lists, in the order of their epochs.

    Raises:
        TrustError: A list is older (``rollback``), names another one before it (``fork``), leaves
            one out (``gap``), or too few officers signed it (``threshold``). Nothing is taken.
    """
    for envelope in envelopes:
        current = _step(current, envelope)
    return current


def require_valid(members: Members, *, now: datetime) -> None:
    """Refuse a list that is out of date, a day of grace added.

    Raises:
        TrustError: It is (``expired``).
    """
    if statement.has_expired(members.valid_until, now=now):
        raise TrustError(
            "expired",
            f"The member list of {members.federation} (epoch {members.members_epoch}) was valid "
            f"until {members.valid_until}. Nothing is done under it. The officers sign a new one.",
        )


def _step(current: Members, envelope: bytes) -> Members:
    found = parse_list(envelope)
    if found == current:
        return current
    require_next(current, found)
    _require_signers(envelope, found, officers=current.officers, threshold=current.threshold)
    return found


def require_next(current: Members, found: Members) -> None:
    """Refuse a list that cannot come right after the one in force, whoever signed it.

    Raises:
        TrustError: ``rollback``, ``fork``, ``gap``, ``federation`` or ``key_reused``.
    """
    require_federation(current, found.federation, what="member list")
    if found.members_epoch <= current.members_epoch:
        reason = "fork" if found.members_epoch == current.members_epoch else "rollback"
        raise TrustError(
            reason,
            f"A member list of epoch {found.members_epoch} was refused ({reason}): epoch "
            f"{current.members_epoch} of {current.federation} is in force and stays. Keep the "
            "refused file, it is evidence, and call the officers.",
        )
    if found.members_epoch != current.members_epoch + 1:
        raise TrustError(
            "gap",
            f"A member list of epoch {found.members_epoch} cannot follow epoch "
            f"{current.members_epoch}. Nothing was changed. Bring the lists between them too.",
        )
    if found.previous_digest != current.digest:
        raise TrustError("fork", "A member list was refused: it follows another list than ours.")
    if not set(current.retired_keys) | taken_off(current, found) <= set(found.retired_keys):
        raise TrustError("key_reused", "A member list was refused: it forgets retired keys.")


def taken_off(before: Members, after: Members) -> set[str]:
    """Return the keys that one list gives power to and the next does not."""
    return set(before.active_keys) - set(after.active_keys)


def _require_signers(
    envelope: bytes, found: Members, *, officers: Sequence[str], threshold: int
) -> None:
    """Refuse a list that too few of the officers in force signed, or of its own officers."""
    keys = statement.keys_of(*officers, *found.officers)
    _, signers = statement.open_signed(KIND, envelope, keys)
    for group, needed in ((officers, threshold), (found.officers, found.threshold)):
        signed = signers & set(statement.keys_of(*group))
        if len(signed) < needed:
            raise TrustError(
                "threshold",
                f"A member list of {found.federation} (epoch {found.members_epoch}) was refused: "
                f"{len(signed)} of {needed} officers signed it. Nothing was changed.",
            )


def made(members: Members) -> Members:
    """Return a list of our own making, if whoever reads it will take it."""
    statement.read(KIND, statement.write(KIND, members.fields), _CHECKS)
    return _checked(members)


def parse_list(envelope: bytes) -> Members:
    """Return the content of a list, checked in itself; who signed it is NOT looked at."""
    fields = statement.read(KIND, statement.unverified(KIND, envelope), _CHECKS)
    del fields["kind"]
    fields["sites"] = tuple(Member(**site) for site in fields["sites"])
    for name in ("officers", "coordinator_keys", "retired_keys"):
        fields[name] = tuple(fields[name])
    return _checked(Members(**fields))


def _checked(members: Members) -> Members:
    """Refuse a list that no honest officer would sign."""
    ids = [site.site_id for site in members.sites]
    if ids != sorted(set(ids)) or list(members.officers) != sorted(members.officers):
        raise TrustError("fields", "A member list was refused: its rows are not in order.")
    twice = [key for key, count in Counter(members.active_keys).items() if count > 1]
    if twice or set(members.active_keys) & set(members.retired_keys):
        raise TrustError(
            "key_reused",
            "A key has one holder and one purpose, and does not come back: a member list that "
            "names one twice, or one that was retired, was refused. The site makes new keys.",
        )
    entities = [site.legal_entity.casefold() for site in members.sites]
    if len(set(entities)) != len(entities):
        raise TrustError("identity", "A legal entity has one place on the member list, not two.")
    if not 1 <= members.threshold <= len(members.officers) or members.min_sites < 1:
        raise TrustError("fields", "A member list was refused: threshold or min_sites.")
    if (members.members_epoch == 1) != (members.previous_digest == NO_LIST):
        raise TrustError("fields", "A member list was refused: only the first follows none.")
    statement.keys_of(*members.active_keys)
    return members


def require_federation(members: Members, federation: str, *, what: str) -> None:
    """Refuse what belongs to another federation.

    Raises:
        TrustError: It does (``federation``).
    """
    if federation != members.federation:
        raise TrustError(
            "federation", f"A {what} of another federation than {members.federation} was refused."
        )


def _is_member(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(_MEMBER_CHECKS)
        and all(check(value[name]) for name, check in _MEMBER_CHECKS.items())
    )


def is_positive(value: Any) -> bool:
    """Whether a value is a whole number from 1 on."""
    return is_count(value) and value >= 1


_MEMBER_CHECKS: dict[str, Check] = {
    "site_id": is_id,
    "legal_entity": is_text,
    "signing_key": is_hex,
    "request_key": is_hex,
    "weight_cap": lambda value: is_count(value) and 1 <= value <= FULL_WEIGHT,
    "witness": lambda value: type(value) is bool,
}
_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "members_epoch": is_positive,
    "previous_digest": lambda value: value == NO_LIST or is_hex(value),
    "valid_until": is_time,
    "officers": list_of(is_hex, most=MAX_KEYS),
    "threshold": is_positive,
    "coordinator_keys": list_of(is_hex, most=MAX_KEYS),
    "min_sites": is_positive,
    "sites": list_of(_is_member, most=MAX_SITES),
    "retired_keys": list_of(is_hex, most=MAX_RETIRED),
}
