"""What a membership's policy and approvals say to its agent, read anew each time it asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from hospitium.engines.hub.site_loop import Approved, Rules
from hospitium.errors import HospitiumError, PolicyError, SiteError, TrustError
from hospitium.imaging.cache import read_facts
from hospitium.site.consent import REFUSALS
from hospitium.site.membership import Membership
from hospitium.site.policy import LimitsSection
from hospitium.site.usage import Usage, is_used_up, seconds_left

_BYTES_PER_MBIT = 125_000


class SiteRules:
    """One membership's rules.

    Args:
        place: The membership.
    """

    def __init__(self, place: Membership) -> None:
        self._place = place
        self._usage = Usage(place.folder)

    def for_loop(self) -> Rules:
        """Return the same rules as the loop asks for them."""
        return Rules(
            closed=self.closed,
            seconds=lambda: seconds_left(self._limits(), self._usage.today(_now())),
            worked=lambda seconds: self.used(compute_s=seconds),
            fits=self.fits,
        )

    def approved(self, plan_digest: str) -> Approved | None:
        """Return what was agreed under a plan's digest; None if the plan is not here.

        Raises:
            SiteError: One of `REFUSALS`.
        """
        place = self._place
        try:
            consent = place.consent(plan_digest)
            plan = place.inbox.plan(plan_digest, place.members())
        except PolicyError as error:
            raise SiteError(REFUSALS["policy"], detail=str(error)) from error
        except TrustError as error:
            raise SiteError(REFUSALS["members"], detail=str(error)) from error
        cases = place.cases(plan_digest)
        if plan is None or cases is None:
            return None
        try:
            is_same = read_facts(cases).digest == place.standing(plan_digest)[-1].cohort_digest
        except HospitiumError as error:
            raise SiteError(REFUSALS["cases"], detail=str(error)) from error
        if not is_same:
            raise SiteError(REFUSALS["cases"])
        return Approved(plan=plan, cases=cases, num_cases=consent.num_cases, consent=consent)

    def closed(self) -> str:
        """Return why no task is begun now; "" if one may be."""
        if self._place.is_paused:
            return "paused"
        try:
            policy = self._place.policy()
        except PolicyError:
            return "policy"
        if not policy.is_open(_now()):
            return "window"
        return "limits" if is_used_up(policy.limits, self._usage.today(_now())) else ""

    def next_opening(self) -> datetime | None:
        """Return when the hours begin; None while they last, or where the policy cannot be read."""
        try:
            policy = self._place.policy()
        except PolicyError:
            return None
        return None if policy.is_open(_now()) else policy.next_opening(_now())

    def fits(self, size_bytes: int) -> Literal["now", "later", "never"]:
        """Say whether a file may leave, by the bytes of a day."""
        most = self._limits().bytes_per_day
        if not most or self._usage.today(_now()).sent_bytes + size_bytes <= most:
            return "now"
        return "later" if size_bytes <= most else "never"

    def bytes_per_s(self) -> float:
        """Return how fast the line may be used each way; 0 is no limit."""
        return self._limits().mbit_per_s * _BYTES_PER_MBIT

    def used(self, *, sent_bytes: int = 0, received_bytes: int = 0, compute_s: float = 0.0) -> None:
        """Count what was used just now."""
        self._usage.add(
            _now(), sent_bytes=sent_bytes, received_bytes=received_bytes, compute_s=compute_s
        )

    def _limits(self) -> LimitsSection:
        """Return the policy's limits; where it cannot be read no task is begun anyway."""
        try:
            return self._place.policy().limits
        except PolicyError:
            return LimitsSection()


def _now() -> datetime:
    return datetime.now(UTC)
