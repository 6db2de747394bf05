"""What a site agreed to: the digest of the plan, and how many cases it enrolled with."""

from __future__ import annotations

from dataclasses import dataclass

from hospitium.errors import SiteError
from hospitium.plan import Plan
from hospitium.types import Task


@dataclass(frozen=True, kw_only=True)
class Consent:
    """One plan that this site takes part in; nothing else is answered.

    In an ``in_process`` run the person who starts it gives it for all simulated sites.
    """

    plan_digest: str
    num_cases: int

    def require(self, plan: Plan, task: Task) -> None:
        """Refuse a task of another plan than the one agreed to.

        Raises:
            SiteError: The digests differ. Nothing was decoded or trained.
        """
        if not plan.digest == task.plan_digest == self.plan_digest:
            raise SiteError("the site has not agreed to this plan")
