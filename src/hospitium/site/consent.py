"""What a site agreed to, and whether a task that comes now is within it.

In an ``in_process`` run the person who starts it gives the consent for all simulated sites: the
digest of the plan and a number of cases. Between machines it also has `Terms`: then a task comes
with its `Occasion`, and everything that has changed since a person here approved refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from hospitium.errors import SiteError
from hospitium.plan import Plan
from hospitium.site.policy import Policy
from hospitium.types import Task

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "plan": "the site has not agreed to this plan",
        "withdrawn": "the site has withdrawn from this plan",
        "paused": "the site has paused",
        "members": "the member list is not the one that the site agreed to",
        "sites": "there are fewer sites than the site agreed to",
        "sealed": "the update is to leave without being sealed to the run's key",
        "code": "the plan's custom code is not pinned by the site",
        "policy": "the site's policy has changed since it agreed",
        "expired": "the site's agreement or approval has expired",
        "window": "it is outside the site's hours",
        "isolation": "the site's training process is not cut off from the network",
        "cases": "the site's cases are not those that it agreed to use",
        "history": "the coordinator's record is not the one that the site was shown before",
        "split": "the sites of a round were not all asked the same",
        "limits": "an update of this size is above the site's limit of a day",
        "seat": "the site has trained for another task of this round",
    }
)
"""The closed list of reasons, in the order in which they are looked for, as the coordinator
hears them."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The conditions of a named person's approval.

    ``policy`` is the one in force now, ``policy_digest`` that of the approval. ``expires`` is aware
    of its time zone. ``approved_by`` and ``members_epoch`` are for the site's record.
    """

    members_digest: str
    min_sites: int
    policy_digest: str
    policy: Policy
    expires: datetime
    is_paused: bool = False
    approved_by: tuple[str, ...] = ()
    members_epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """What a task comes with: the member list in force, who was asked, and the time at the site.

    ``is_sealed`` says whether the update is to be sealed to the run's key, so that only the
    coordinator reads it and nobody on the way, which must be where no secure sum hides it.
    """

    members_digest: str
    num_sites: int
    now: datetime
    is_sealed: bool


@dataclass(frozen=True, kw_only=True)
class Consent:
    """One plan that this site takes part in; nothing else is answered."""

    plan_digest: str
    num_cases: int
    terms: Terms | None = None

    def require(self, plan: Plan, task: Task, *, occasion: Occasion | None = None) -> None:
        """Refuse a task that is not within what was agreed.

        Raises:
            SiteError: One of `REFUSALS`. Nothing was decoded or trained.
        """
        reason = self.refusal(plan, plan_digest=task.plan_digest, occasion=occasion)
        if reason:
            raise SiteError(REFUSALS[reason])

    def refusal(self, plan: Plan, *, plan_digest: str, occasion: Occasion | None) -> str | None:
        """Return why a task is refused, as a name of `REFUSALS`; None if it is answered.

        Can be asked before anything of a task but its plan digest was decoded. Terms without an
        occasion refuse: what cannot be looked at is not agreed to.
        """
        if not plan.digest == plan_digest == self.plan_digest:
            return "plan"
        if self.terms is None:
            return None
        return "members" if occasion is None else _refusal(self.terms, plan, occasion)


def _refusal(terms: Terms, plan: Plan, occasion: Occasion) -> str | None:
    policy = terms.policy
    refused = {
        "paused": terms.is_paused,
        "members": occasion.members_digest != terms.members_digest,
        "sites": occasion.num_sites < max(terms.min_sites, policy.allow.min_sites),
        "sealed": plan.privacy.secure_sums == "off" and not occasion.is_sealed,
        "code": bool(plan.plugin_sha256) and plan.plugin_sha256 not in policy.allow.code,
        "policy": policy.digest != terms.policy_digest,
        "expired": occasion.now > terms.expires or not policy.is_agreed(occasion.now),
        "window": not policy.is_open(occasion.now),
    }
    return next((reason for reason, is_refused in refused.items() if is_refused), None)
