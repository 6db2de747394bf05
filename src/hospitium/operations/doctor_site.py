"""What ``hospitium doctor`` finds of one federation at a site: keys, member list, policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from hospitium.errors import HospitiumError, KeyFileError, PolicyError
from hospitium.operations.doctor_checks import (
    APPROVER,
    CENTRE,
    ENGINEER,
    Check,
    failed,
    passed,
    warned,
)
from hospitium.site.membership import Membership
from hospitium.wire.members import Members
from hospitium.wire.statement import has_expired, read_time

SOON = timedelta(days=30)


def check_membership(place: Membership, *, now: datetime) -> Iterator[Check]:
    """Yield keys, member list, policy, and whether people stopped the work."""
    yield _keys(place)
    yield _members(place, now=now)
    yield _policy(place, now=now)
    yield _work(place)


def _keys(place: Membership) -> Check:
    try:
        signing, request = place.signing_key(), place.request_key()
    except (KeyFileError, OSError) as error:
        return failed("keys", str(error), remedy="As it says.", who=ENGINEER)
    return passed(
        "keys",
        f"signing key {signing.public.key_id[:12]} and request key "
        f"{request.public.key_id[:12]}, for this account alone",
    )


def _members(place: Membership, *, now: datetime) -> Check:
    try:
        found = place.chain.current()
        row = place.own_row() if found else None
    except (HospitiumError, OSError, ValueError) as error:
        return failed(
            "member list",
            f"it cannot be verified: {error}",
            remedy="Keep the files, they are evidence, and call the officers.",
            who=CENTRE,
        )
    if found is None:
        return warned(
            "member list",
            "none has come yet: the site is not admitted",
            remedy="Read the six words of `hospitium site join` to the centre on the telephone.",
            who=ENGINEER,
        )
    if row is None:
        return failed(
            "member list",
            f"list {found.members_epoch} of {found.federation} does not name this site with the "
            "keys that are here",
            remedy="Revoked, or not admitted yet: call the coordinating centre.",
            who=CENTRE,
        )
    return list_validity(found, now=now)


def list_validity(members: Members, *, now: datetime) -> Check:
    """Say until when a member list is good."""
    found = (
        f"list {members.members_epoch} with {len(members.sites)} sites, valid until "
        f"{members.valid_until}"
    )
    remedy = "The officers sign a new list; each admission or revocation makes one."
    if has_expired(members.valid_until, now=now):
        return failed("member list", f"{found}: that is over", remedy=remedy, who=CENTRE)
    if read_time(members.valid_until) - now < SOON:
        return warned("member list", found, remedy=remedy, who=CENTRE)
    return passed("member list", found)


def _policy(place: Membership, *, now: datetime) -> Check:
    try:
        policy = place.policy()
    except PolicyError as error:
        return failed("policy", str(error), remedy="Mend the lines named.", who=ENGINEER)
    where = place.folder / "policy.toml"
    missing = []
    if not policy.approval.approvers:
        missing.append("nobody may approve (approval.approvers)")
    elif len(policy.approval.approvers) < policy.approval.needed:
        missing.append("fewer people may approve than have to (approval.needed)")
    if not policy.agreement.expires:
        missing.append("no agreement with a last day (agreement.expires)")
    elif not policy.is_agreed(now):
        missing.append(f"the agreement ended on {policy.agreement.expires}; nothing is trained")
    if missing:
        remedy = f"Fill in {where} together with an approver."
        return failed("policy", "; ".join(missing), remedy=remedy, who=APPROVER)
    return passed(
        "policy",
        f"{policy.approval.needed} of {len(policy.approval.approvers)} people approve; the "
        f"agreement holds until {policy.agreement.expires}",
    )


def _work(place: Membership) -> Check:
    if place.has_left:
        return warned("work", "this site has left the federation", remedy="Nothing, or join again.",
                      who=ENGINEER)  # fmt: skip
    if place.is_paused:
        remedy = "Go on with `hospitium site resume`."
        return warned("work", "paused by a person here", remedy=remedy, who=ENGINEER)
    return passed("work", "not paused")


def is_listed(place: Membership) -> bool:
    """Whether the member list here names this site with the keys that are here."""
    try:
        return place.own_row() is not None
    except (HospitiumError, OSError, ValueError):
        return False
