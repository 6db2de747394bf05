"""The member list: who belongs to a federation, signed by its officers, each list on the last one.

A list names the digest of the one before it. A reader goes from list to list, one epoch at a time,
and never back. A key that was once taken off the list never comes back either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text, is_time, list_of

KIND = "members"
ROTATION = "rotation"
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

    @property
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


def first_list(
    *,
    federation: str,
    officers: Sequence[str],
    threshold: int,
    coordinator_key: str,
    min_sites: int,
    valid_until: datetime,
) -> Members:
    """Return the list of a new federation: officers, a coordinator, and no site yet."""
    return _made(
        Members(
            federation=federation,
            members_epoch=1,
            previous_digest=NO_LIST,
            valid_until=statement.time_text(valid_until),
            officers=tuple(sorted(officers)),
            threshold=threshold,
            coordinator_keys=(coordinator_key,),
            min_sites=min_sites,
        )
    )


def admit(members: Members, member: Member, *, valid_until: datetime) -> Members:
    """Return the next list, with one more site; or the same site anew, its old keys retired.

    Raises:
        TrustError: One of its keys is or was another's, or its legal entity is a member already.
    """
    others = tuple(site for site in members.sites if site.site_id != member.site_id)
    return _next(members, sites=(*others, member), valid_until=valid_until)


def revoke(members: Members, site_id: str, *, valid_until: datetime) -> Members:
    """Return the next list, without a site; its keys never come back."""
    gone = members.site(site_id)
    return _next(
        members, sites=tuple(s for s in members.sites if s != gone), valid_until=valid_until
    )


def replace_officers(
    members: Members, officers: Sequence[str], *, threshold: int, valid_until: datetime
) -> Members:
    """Return the next list under other officers; the old and the new ones have to sign it."""
    return _next(members, officers=officers, threshold=threshold, valid_until=valid_until)


def replace_coordinator(members: Members, key: str, *, valid_until: datetime) -> Members:
    """Return the next list with another coordinator's key, after the first one was lost."""
    return _next(members, coordinator_keys=(key,), valid_until=valid_until)


def sign_rotation(
    members: Members, *, site_id: str, purpose: Purpose, new: SigningKey, signing: SigningKey
) -> bytes:
    """Return a site's statement that one of its keys has a successor.

    Args:
        members: The list in force.
        site_id: The site.
        purpose: Which of its keys.
        new: The successor, which signs too.
        signing: The site's signing key of that list.
    """
    old = _key_for(members.site(site_id), purpose)
    fields: dict[str, Json] = {
        "federation": members.federation,
        "members_epoch": members.members_epoch,
        "site_id": site_id,
        "purpose": purpose,
        "old_key": old,
        "new_key": new.public.hex(),
    }
    return statement.sign(ROTATION, fields, signing, new)


def rotate(members: Members, envelope: bytes, *, valid_until: datetime) -> Members:
    """Return the next list after a site's rotation; the old key is retired.

    Raises:
        TrustError: It is for another list, or the site's signing key and the new one did not both
            sign it.
    """
    fields = statement.read(ROTATION, statement.unverified(ROTATION, envelope), _ROTATION_CHECKS)
    _require_federation(members, fields["federation"], what=ROTATION)
    site = members.site(fields["site_id"])
    if (fields["members_epoch"], fields["old_key"]) != (
        members.members_epoch,
        _key_for(site, fields["purpose"]),
    ):
        raise TrustError("members", f"The rotation of {site.site_id} is for another member list.")
    keys = statement.keys_of(site.signing_key, fields["new_key"])
    _, signers = statement.open_signed(ROTATION, envelope, keys)
    if len(signers) != 2:
        raise TrustError(
            "threshold", f"The rotation of {site.site_id} lacks the old or the new key's signature."
        )
    name = "signing_key" if fields["purpose"] == "signing" else "request_key"
    changed = replace(site, **{name: fields["new_key"]})
    others = tuple(row for row in members.sites if row != site)
    return _next(members, sites=(*others, changed), valid_until=valid_until)


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
    _require_federation(current, found.federation, what="member list")
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
    if not set(current.retired_keys) | _taken_off(current, found) <= set(found.retired_keys):
        raise TrustError("key_reused", "A member list was refused: it forgets retired keys.")


def _taken_off(before: Members, after: Members) -> set[str]:
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


def _next(members: Members, *, valid_until: datetime, **changes: Any) -> Members:
    """Return the list that follows, with everything sorted and what was taken off retired."""
    if "sites" in changes:
        changes["sites"] = tuple(sorted(changes["sites"], key=lambda site: site.site_id))
    if "officers" in changes:
        changes["officers"] = tuple(sorted(changes["officers"]))
    following = replace(
        members,
        members_epoch=members.members_epoch + 1,
        previous_digest=members.digest,
        valid_until=statement.time_text(valid_until),
        **changes,
    )
    retired = set(members.retired_keys) | _taken_off(members, following)
    return _made(replace(following, retired_keys=tuple(sorted(retired))))


def _made(members: Members) -> Members:
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


def _require_federation(members: Members, federation: str, *, what: str) -> None:
    if federation != members.federation:
        raise TrustError(
            "federation", f"A {what} of another federation than {members.federation} was refused."
        )


def _key_for(site: Member, purpose: str) -> str:
    return site.signing_key if purpose == "signing" else site.request_key


def _is_member(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(_MEMBER_CHECKS)
        and all(check(value[name]) for name, check in _MEMBER_CHECKS.items())
    )


def _is_positive(value: Any) -> bool:
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
    "members_epoch": _is_positive,
    "previous_digest": lambda value: value == NO_LIST or is_hex(value),
    "valid_until": is_time,
    "officers": list_of(is_hex, most=MAX_KEYS),
    "threshold": _is_positive,
    "coordinator_keys": list_of(is_hex, most=MAX_KEYS),
    "min_sites": _is_positive,
    "sites": list_of(_is_member, most=MAX_SITES),
    "retired_keys": list_of(is_hex, most=MAX_RETIRED),
}
_ROTATION_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "members_epoch": _is_positive,
    "site_id": is_id,
    "purpose": lambda value: value in ("signing", "request"),
    "old_key": is_hex,
    "new_key": is_hex,
}
