"""The next member list: with a site, without it, under other officers, or with a site's new key.

Each function returns an unsigned list on top of the one in force; whatever key is taken off is
retired and never comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.members import (
    NO_LIST,
    Member,
    Members,
    Purpose,
    is_positive,
    made,
    require_federation,
    taken_off,
)
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import Check, is_hex, is_id

ROTATION = "rotation"


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
    return made(
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
    require_federation(members, fields["federation"], what=ROTATION)
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
    retired = set(members.retired_keys) | taken_off(members, following)
    return made(replace(following, retired_keys=tuple(sorted(retired))))


def _key_for(site: Member, purpose: str) -> str:
    return site.signing_key if purpose == "signing" else site.request_key


_ROTATION_CHECKS: dict[str, Check] = {
    "federation": is_id,
    "members_epoch": is_positive,
    "site_id": is_id,
    "purpose": lambda value: value in ("signing", "request"),
    "old_key": is_hex,
    "new_key": is_hex,
}
