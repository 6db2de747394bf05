"""Whether a site is ready to work: what it thinks itself, and what the coordinator thinks of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hospitium.errors import HospitiumError, TrustError
from hospitium.operations.site_watching import left_runs
from hospitium.site.condition import Found, read_condition
from hospitium.site.membership import Membership, memberships
from hospitium.state.home import Home
from hospitium.wire.approvals import Refusal
from hospitium.wire.statement import read_time, time_text

_AGENT_WORDS = {
    "silent": "The agent has not been heard of for a while. Start it: `hospitium site up`.",
    "stopped": "The agent does not run. Start it: `hospitium site up`.",
}


def status(home: Home, *, now: datetime) -> list[dict[str, Any]]:
    """Return, for each federation, whether this site is ready to work and, if not, why.

    ``healthy`` is registered, approved, reachable and able to decode; each is told by itself.
    ``coordinator`` is what the coordinator said last that it thinks of this site.
    """
    return [_status(place, now=now) for place in memberships(home.folder)]


def plan_state(place: Membership, plan_digest: str, *, now: datetime) -> str:
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


def _status(place: Membership, *, now: datetime) -> dict[str, Any]:
    found, agent = read_condition(place.folder, now=now)
    row: dict[str, Any] = {
        "federation": place.settings.federation,
        "site_id": place.settings.site_id,
        "registered": False,
        "approved": [],
        "reachable": found.reachable,
        "decoding": found.decoding,
        "round_number": found.round_number,
        "last_error": found.last_error or _AGENT_WORDS.get(agent, ""),
        "healthy": False,
        "agent": agent,
        "state": found.state if agent == "running" else "",
        "isolation": found.isolation,
        "coordinator": found.standing,
        "stopped_runs": left_runs(place),
        "members_epoch": None,
        "is_paused": place.is_paused,
        "has_left": place.has_left,
        "next_opening": None,
    }
    try:
        row.update(_agreed(place, now=now))
    except HospitiumError as error:
        row["last_error"] = f"{error.code}: {error}"
    for stopped in row["stopped_runs"]:
        row["last_error"] = f"{TrustError.code}: {stopped['words']}"
    names = ("registered", "approved", "reachable", "decoding")
    row["healthy"] = all(row[name] for name in names) and _is_known(row, found)
    return row


def _agreed(place: Membership, *, now: datetime) -> dict[str, Any]:
    """Return what stands on this site's own disk: policy, member list, approvals."""
    policy = place.policy()
    row: dict[str, Any] = {}
    if not policy.is_open(now):
        row["next_opening"] = time_text(policy.next_opening(now))
    members = place.chain.current()
    if members is not None:
        states = {plan.digest: plan_state(place, plan.digest, now=now) for plan in place.plans()}
        row["members_epoch"] = members.members_epoch
        row["registered"] = place.own_row() is not None
        row["approved"] = [digest for digest, state in states.items() if state == "approved"]
    return row


def _is_known(row: dict[str, Any], found: Found) -> bool:
    """Whether the coordinator has the same member list, and one of the approvals."""
    plans = found.standing.get("plans", {})
    return found.standing.get("members_epoch") == row["members_epoch"] and any(
        plans.get(digest) == "approved" for digest in row["approved"]
    )
