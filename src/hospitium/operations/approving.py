"""What people at a site do about plans: read them, approve them, refuse them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

from hospitium.errors import TrustError, UsageError
from hospitium.imaging.cache import read_facts
from hospitium.operations.admission import admit_local
from hospitium.operations.allowing import problems_now, require_allowed, require_isolation
from hospitium.operations.enrolment import joined
from hospitium.operations.plan_words import difference, what_it_does, what_leaves
from hospitium.operations.progress import Say, silent
from hospitium.operations.site_cases import cases_for
from hospitium.operations.site_serving import probe_isolation
from hospitium.operations.site_status import plan_state
from hospitium.operations.withdrawing import only_digest
from hospitium.plan import Plan
from hospitium.site.membership import Membership
from hospitium.site.policy import Policy
from hospitium.state.home import Home
from hospitium.wire.approvals import REFUSALS, Approval, Refusal
from hospitium.wire.members import require_valid
from hospitium.wire.statement import time_text


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
            "state": plan_state(place, plan.digest, now=now),
            "approved_by": [one.approver for one in place.counted(plan.digest)],
        }
        for plan in place.plans()
    ]


def review(
    home: Home, federation: str | None, name: str, *, now: datetime, approver: str = ""
) -> dict[str, Any]:
    """Return a plan in words: what it does, what leaves, what changed, what the policy says.

    Args:
        home: This installation.
        federation: Which federation; None for the only one.
        name: Digest of the plan, or its first characters.
        now: The time.
        approver: Who is about to approve it, so that it is said if the policy does not let them.
    """
    place = joined(home, federation)
    plan = _find(place, name)
    before = _last_approved(place, other_than=plan.digest)
    changes = difference(before, plan)
    return {
        "plan_digest": plan.digest,
        "name": plan.name,
        "state": plan_state(place, plan.digest, now=now),
        "does": what_it_does(plan),
        "leaves": what_leaves(plan),
        "compared_with": before.digest if before else "",
        "changes": [change.words for change in changes],
        "weakenings": [change.key for change in changes if change.weakens],
        "policy_problems": problems_now(place.policy(), plan, now=now, approver=approver),
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
        ReaderError: The site reads the shipped test series into other numbers.
        DataError: There are no training cases.
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
    require_allowed(policy, plan, approver=approver, now=now)
    require_isolation(policy, isolation)
    admit_local([place.settings.site_id])
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
    place.keep_cases(plan.digest, cases)
    place.say(said)
    counted = place.counted(plan.digest)
    return {
        "plan_digest": plan.digest,
        "name": plan.name,
        "state": plan_state(place, plan.digest, now=now),
        "approved_by": [one.approver for one in counted],
        "needed": policy.approval.needed,
        "num_cases": said.num_cases,
        "expires": said.expires,
        "isolation": said.isolation,
    }


def approve_data(
    home: Home,
    federation: str | None,
    name: str,
    *,
    approver: str,
    data: str | None,
    now: datetime,
    role: str = "approver",
    say: Say = silent,
) -> dict[str, Any]:
    """Prepare a site's data for a plan, try whether training is cut off, and approve.

    Args:
        home: This installation.
        federation: Which federation; None for the only one.
        name: Digest of the plan, or its first characters.
        approver: Who.
        data: Name of a data set of this site, or a path; None takes what was prepared before.
        now: The time.
        role: What the person is here.
        say: Told what is done.

    Raises:
        HospitiumError: See `approve` and `cases_for`. Nothing was signed.
    """
    place = joined(home, federation)
    plan = _find(place, name)
    require_allowed(place.policy(), plan, approver=approver, now=now)  # before hours of reading
    cases = cases_for(home, federation, plan, data=data, say=say)
    say({"kind": "stage", "text": "Trying whether training is cut off from the network"})
    return approve(
        home,
        federation,
        name,
        approver=approver,
        cases=cases,
        now=now,
        role=role,
        isolation=probe_isolation(home, federation),
    )


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


def _find(place: Membership, name: str) -> Plan:
    """Return the plan of the inbox whose digest begins so."""
    plans = {plan.digest: plan for plan in place.plans()}
    return plans[only_digest(list(plans), name)]


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


def _end(policy: Policy, *, now: datetime) -> datetime:
    """Return the last moment of an approval: its own days, or the end of the agreement."""
    last_day = datetime.fromisoformat(policy.agreement.expires).date()
    end_of_agreement = datetime.combine(last_day, time(23, 59, 59)).astimezone(UTC)
    return min(now + timedelta(days=policy.approval.days), end_of_agreement)
