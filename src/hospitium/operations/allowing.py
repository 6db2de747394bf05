"""Whether a site's own policy lets its people approve a plan, and what is in the way."""

from __future__ import annotations

from datetime import datetime

from hospitium.errors import TrustError
from hospitium.plan import Plan
from hospitium.site.isolation import REMEDY
from hospitium.site.policy import Policy


def problems_now(policy: Policy, plan: Plan, *, now: datetime, approver: str = "") -> list[str]:
    """Return all for which nobody here could approve a plan now, or this person could not."""
    problems = policy.problems_of(plan)
    if approver and policy.approval.approvers:
        problems += _unnamed(policy, approver)
    if not policy.approval.approvers:
        problems.append("approval.approvers names nobody yet")
    problems += _unwritten(policy)
    if not policy.is_agreed(now):
        last = policy.agreement.expires
        problems.append(f"agreement.expires: {f'{last} is over' if last else 'no last day yet'}")
    return problems


def require_allowed(policy: Policy, plan: Plan, *, approver: str, now: datetime) -> None:
    """Refuse to sign what the site's own policy does not allow."""
    problems = policy.problems_of(plan)
    problems += _unnamed(policy, approver) + _unwritten(policy)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise TrustError(
            "policy",
            f"{plan.name}: this site's policy does not allow the approval. Nothing was signed.\n"
            f"{listed}\nChange policy.toml in this federation's folder if you may, or agree on "
            "another plan.",
        )
    if not policy.is_agreed(now):
        raise TrustError(
            "expired",
            f"{plan.name}: the agreement of this site ended on "
            f"{policy.agreement.expires or 'no day that is written down'} (agreement.expires). "
            "Nothing was signed; after it nothing is trained. Renew it, then write the new day.",
        )


def require_isolation(policy: Policy, isolation: str) -> None:
    """Refuse to sign where training would have a network and the policy does not want that."""
    if policy.isolation.required and isolation == "not_cut_off":
        raise TrustError(
            "policy",
            "The training process could reach the network on this machine, and the policy wants it "
            f"cut off (isolation.required). Nothing was signed. {REMEDY}",
        )


def _unnamed(policy: Policy, approver: str) -> list[str]:
    if approver in policy.approval.approvers:
        return []
    named = ", ".join(policy.approval.approvers) or "nobody yet"
    return [f"{approver!r} is not named in approval.approvers ({named})"]


def _unwritten(policy: Policy) -> list[str]:
    """Return what has to stand in a policy before anything is approved."""
    if policy.agreement.reference and policy.agreement.ethics:
        return []
    return ["agreement.reference and agreement.ethics are to be filled in"]
