"""What people at a site do about plans: read, approve, refuse, withdraw; pause, resume, leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

from hospitium.errors import HospitiumError, StateConflictError, TrustError, UsageError
from hospitium.imaging.cache import read_facts
from hospitium.operations.enrolment import joined
from hospitium.operations.plan_words import difference, what_it_does, what_leaves
from hospitium.plan import Plan
from hospitium.site.membership import Membership, memberships
from hospitium.site.policy import Policy
from hospitium.state.home import Home
from hospitium.wire.approvals import REFUSALS, Approval, Refusal, Withdrawal
from hospitium.wire.members import require_valid
from hospitium.wire.statement import read_time, time_text

HEARTBEAT_S = 120.0
"""A heartbeat of the agent that is older than this says nothing."""


def take_plan(home: Home, federation: str | None, envelope: bytes) -> dict[str, Any]:
    """Put a signed plan into the inbox; see `Membership.take_plan`."""
    plan = joined(home, federation).take_plan(envelope)
    return {"plan_digest": plan.digest, "name": plan.name}


def inbox(home: Home, federation: str | None, *, now: datetime) -> list[dict[str, Any]]:
    """Return every plan of the inbox, oldest first, with what was said about it here."""
    place = joined(home, federation)
    return [
        {
            "federation": place.settings.federation,
            "plan_digest": plan.digest,
            "name": plan.name,
            "state": _state(place, plan.digest, now=now),
            "approved_by": [one.approver for one in place.counted(plan.digest)],
        }
        for plan in place.plans()
    ]


def review(home: Home, federation: str | None, name: str, *, now: datetime) -> dict[str, Any]:
    """Return a plan in words: what it does, what leaves, what changed, what the policy says.

    Args:
        home: This installation.
        federation: Which federation; None for the only one.
        name: Digest of the plan, or its first characters.
        now: The time.
    """
    place = joined(home, federation)
    plan = _find(place, name)
    before = _last_approved(place, other_than=plan.digest)
    changes = difference(before, plan)
    return {
        "plan_digest": plan.digest,
        "name": plan.name,
        "state": _state(place, plan.digest, now=now),
        "does": what_it_does(plan),
        "leaves": what_leaves(plan),
        "compared_with": before.digest if before else "",
        "changes": [change.words for change in changes],
        "weakenings": [change.key for change in changes if change.weakens],
        "policy_problems": place.policy().problems_of(plan),
        "sites": [site.site_id for site in place.members().sites],
        "approvers": list(place.policy().approval.approvers),
    }


def approve(
    home: Home,
    federation: str | None,
    name: str,
    *,
    approver: str,
    cases: Path,
    now: datetime,
    role: str = "approver",
    isolation: str = "not_tested",
) -> dict[str, Any]:
    """Sign that a named person agrees to exactly this plan, on these cases, under this policy.

    Args:
        home: This installation.
        federation: Which federation; None for the only one.
        name: Digest of the plan, or its first characters.
        approver: Who; one of those whom the policy names.
        cases: Folder of the prepared cases that will be trained on.
        now: The time.
        role: What the person is here, in a word or two.
        isolation: How the training process is cut off: ``cut_off``, ``not_cut_off``,
            ``not_tested``.

    Raises:
        TrustError: The policy does not allow it (``policy``), the site is no member (``members``),
            the agreement has expired (``expired``), or it was withdrawn (``withdrawn``).
    """
    place = joined(home, federation)
    plan, policy, members = _find(place, name), place.policy(), place.members()
    _require_member(place)
    require_valid(members, now=now)
    if place.is_withdrawn(plan.digest):
        raise TrustError(
            "withdrawn",
            f"{plan.name}: this site has withdrawn from this plan; that cannot be taken back. A "
            "new plan is needed.",
        )
    _require_allowed(policy, plan, approver=approver, now=now)
    facts = read_facts(cases)
    said = Approval(
        federation=members.federation,
        site_id=place.settings.site_id,
        plan_digest=plan.digest,
        policy_digest=policy.digest,
        members_epoch=members.members_epoch,
        members_digest=members.digest,
        approver=approver,
        role=role,
        cohort_digest=facts.digest,
        num_cases=sum(facts.splits["train"].values()),
        min_sites=max(policy.allow.min_sites, members.min_sites),
        budget=round(1000 * plan.privacy.epsilon),
        isolation=isolation,
        agreement=policy.agreement.reference,
        ethics=policy.agreement.ethics,
        expires=time_text(_end(policy, now=now)),
        time=time_text(now),
    )
    place.say(said)
    counted = place.counted(plan.digest)
    return {
        "plan_digest": plan.digest,
        "name": plan.name,
        "state": _state(place, plan.digest, now=now),
        "approved_by": [one.approver for one in counted],
        "needed": policy.approval.needed,
        "num_cases": said.num_cases,
        "expires": said.expires,
    }


def refuse(
    home: Home, federation: str | None, name: str, *, approver: str, reason: str, now: datetime
) -> dict[str, Any]:
    """Sign that a named person does not agree; what was approved before it counts no longer.

    Raises:
        UsageError: The reason is none of the closed list.
    """
    if reason not in REFUSALS:
        raise UsageError(
            f"{reason!r} is no reason that may travel. Nothing was signed. Choose one of: "
            f"{', '.join(REFUSALS)}."
        )
    place = joined(home, federation)
    plan = _find(place, name)
    said = Refusal(
        federation=place.settings.federation,
        site_id=place.settings.site_id,
        plan_digest=plan.digest,
        members_epoch=place.members().members_epoch,
        approver=approver,
        reason=reason,
        time=time_text(now),
    )
    place.say(said)
    return {"plan_digest": plan.digest, "name": plan.name, "state": "refused"}


def withdraw(
    home: Home, federation: str | None, name: str, *, approver: str, now: datetime
) -> dict[str, Any]:
    """End this site's part in a plan, for good; works offline and holds from this moment."""
    place = joined(home, federation)
    plan_digest = _only(place.plan_digests(), name)
    place.mark_withdrawn(plan_digest)
    place.say(
        Withdrawal(
            federation=place.settings.federation,
            site_id=place.settings.site_id,
            plan_digest=plan_digest,
            approver=approver,
            time=time_text(now),
        )
    )
    return {"plan_digest": plan_digest, "state": "withdrawn"}


def leave(home: Home, federation: str | None, *, approver: str, now: datetime) -> dict[str, Any]:
    """Withdraw from every plan and answer nothing any more; the keys stay until it is revoked."""
    place = joined(home, federation)
    place.leave()
    left = [digest for digest in place.plan_digests() if place.said(digest)]
    for digest in left:
        withdraw(home, place.settings.federation, digest, approver=approver, now=now)
    return {"federation": place.settings.federation, "withdrawn": left}


def set_paused(home: Home, federation: str | None, *, is_paused: bool) -> dict[str, Any]:
    """Answer no task from now on, or answer again."""
    place = joined(home, federation)
    if place.has_left:
        raise StateConflictError(
            f"{place.settings.federation}: this site has left. Nothing was changed. It comes back "
            "with a new invite: `hospitium site join INVITE`."
        )
    if is_paused:
        place.pause()
    else:
        place.resume()
    return {"federation": place.settings.federation, "is_paused": is_paused}


def status(home: Home, *, now: datetime) -> list[dict[str, Any]]:
    """Return, for each federation, whether this site is ready to work and, if not, why.

    "Healthy" is registered, approved, reachable and able to decode; each is told by itself.
    """
    return [_status(place, now=now) for place in memberships(home.folder)]


def _status(place: Membership, *, now: datetime) -> dict[str, Any]:
    beat = _heartbeat(place.folder / "agent.json", now=now)
    row: dict[str, Any] = {
        "federation": place.settings.federation,
        "site_id": place.settings.site_id,
        "registered": False,
        "approved": [],
        "reachable": beat.get("reachable", False),
        "decoding": beat.get("decoding", False),
        "round_number": beat.get("round_number"),
        "last_error": beat.get("last_error", ""),
        "members_epoch": None,
        "is_paused": place.is_paused,
        "has_left": place.has_left,
        "next_opening": None,
    }
    try:
        policy = place.policy()
        row["next_opening"] = time_text(policy.next_opening(now))
        members = place.chain.current()
        if members is not None:
            row["members_epoch"] = members.members_epoch
            row["registered"] = place.own_row() is not None
            states = {plan.digest: _state(place, plan.digest, now=now) for plan in place.plans()}
            row["approved"] = [digest for digest, state in states.items() if state == "approved"]
    except HospitiumError as error:
        row["last_error"] = f"{error.code}: {error}"
    return row


def _heartbeat(path: Path, *, now: datetime) -> Mapping[str, Any]:
    """Return what the agent wrote last, if that was a moment ago."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        beat = json.loads(path.read_bytes())
        if abs((now - read_time(beat["time"])).total_seconds()) <= HEARTBEAT_S:
            assert isinstance(beat, dict)
            return beat
        return {"last_error": "the agent has not been heard of for a while; is it running?"}
    return {}


def _state(place: Membership, plan_digest: str, *, now: datetime) -> str:
    """Return what this site's part in a plan is, in a word."""
    if place.is_withdrawn(plan_digest):
        return "withdrawn"
    said = place.said(plan_digest)
    if said and isinstance(said[-1], Refusal):
        return "refused"
    approvals = place.standing(plan_digest)
    if approvals:
        is_stale = any(
            one.members_digest != place.members().digest
            or one.policy_digest != place.policy().digest
            or now > read_time(one.expires)
            for one in approvals
        )
        return "to be approved again" if is_stale else "approved"
    return "partly approved" if said else "new"


def _find(place: Membership, name: str) -> Plan:
    """Return the plan of the inbox whose digest begins so."""
    plans = {plan.digest: plan for plan in place.plans()}
    return plans[_only(list(plans), name)]


def _only(digests: Sequence[str], name: str) -> str:
    """Return the one digest that begins so; at least 8 characters must be given."""
    found = [digest for digest in digests if digest.startswith(name)]
    if len(found) != 1 or len(name) < 8:
        known = ", ".join(digest[:12] for digest in digests)
        raise UsageError(
            f"{name!r} does not name one plan of the inbox; give the first 8 characters of its "
            f"digest or more. Nothing was signed. In the inbox: {known or 'nothing yet'}."
        )
    return found[0]


def _last_approved(place: Membership, *, other_than: str) -> Plan | None:
    plans = {plan.digest: plan for plan in place.plans() if plan.digest != other_than}
    times = {
        digest: max(one.time for one in approvals)
        for digest in plans
        if (approvals := [one for one in place.said(digest) if isinstance(one, Approval)])
    }
    return plans[max(times, key=lambda digest: times[digest])] if times else None


def _require_member(place: Membership) -> None:
    if place.own_row() is None:
        raise TrustError(
            "members",
            f"{place.settings.federation}: this site is not on the member list in force with the "
            "keys that are here. Nothing was signed. Read the six words to the coordinating "
            "centre, or ask for a new invite.",
        )


def _require_allowed(policy: Policy, plan: Plan, *, approver: str, now: datetime) -> None:
    """Refuse to sign what the site's own policy does not allow."""
    problems = policy.problems_of(plan)
    if approver not in policy.approval.approvers:
        problems.append(f"{approver!r} is not named in approval.approvers")
    if not policy.agreement.reference or not policy.agreement.ethics:
        problems.append("agreement.reference and agreement.ethics are to be filled in")
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise TrustError(
            "policy",
            f"{plan.name}: this site's policy does not allow the approval. Nothing was signed.\n"
            f"{listed}\nAgree on another plan, or change policy.toml if you may.",
        )
    if not policy.is_agreed(now):
        raise TrustError(
            "expired",
            f"{plan.name}: the agreement of this site ended on "
            f"{policy.agreement.expires or 'no day that is written down'} (agreement.expires). "
            "Nothing was signed; after it nothing is trained. Renew it, then write the new day.",
        )


def _end(policy: Policy, *, now: datetime) -> datetime:
    """Return the last moment of an approval: its own days, or the end of the agreement."""
    last_day = datetime.fromisoformat(policy.agreement.expires).date()
    end_of_agreement = datetime.combine(last_day, time(23, 59, 59)).astimezone(UTC)
    return min(now + timedelta(days=policy.approval.days), end_of_agreement)
