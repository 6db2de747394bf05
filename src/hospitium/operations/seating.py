"""Who sits in a round between machines: members whose approval of the plan stands at this moment.

A site that approves while the run is going gets a seat from the next round on. One that withdraws,
is revoked, or has to approve again keeps its seat and is left out with the reason, until it stands
by the plan again. Below quorum no round is begun at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hospitium.errors import QuorumError
from hospitium.state.desk import Desk
from hospitium.state.ledger import RunLedger
from hospitium.types import Answers, Engine, LeftOut, Seat, Task
from hospitium.wire.approvals import Approval, Refusal


class Seating:
    """Which sites take part in a run, by the desk of its federation and by its ledger.

    Args:
        ledger: The run's; it gets the late seats.
        desk: Of the federation.
    """

    def __init__(self, ledger: RunLedger, desk: Desk) -> None:
        self._ledger = ledger
        self._desk = desk
        self._chosen: frozenset[str] = frozenset()

    def chosen(self) -> frozenset[str]:
        """Return who takes part in the round that was chosen for last."""
        return self._chosen

    def choose(self, round_number: int) -> list[str]:
        """Return all seats of a round, sorted, those that cannot be asked included.

        A site that came in since gets its seat first: in this round, unless it is under way.

        Raises:
            QuorumError: Too few stand by their approval. Nobody was asked, nothing was recorded.
        """
        standing = self._desk.standing(self._ledger.plan.digest)
        attempt, accepted = self._ledger.standing_of(round_number)
        is_under_way = attempt == 1
        self._seat(standing, round_number, set(standing) if is_under_way else accepted)
        seats = self._ledger.seats_of(round_number)
        accepted -= set(self.gone(accepted))
        self._chosen = frozenset(accepted | {s.site_id for s in seats if s.site_id in standing})
        if len(self._chosen) < self.needed():
            raise QuorumError(self._too_few(round_number, seats))
        return sorted(seat.site_id for seat in seats)

    def needed(self) -> int:
        """Return how many sites a round needs: by the plan, and by the member list."""
        return max(self._ledger.plan.rounds.quorum, self._desk.members().min_sites)

    def absent(self, site_ids: Sequence[str]) -> dict[str, str]:
        """Return who of these cannot be asked now, and why."""
        plan_digest = self._ledger.plan.digest
        standing = self._desk.standing(plan_digest)
        return {
            site_id: why_absent(self._desk, plan_digest, site_id)
            for site_id in sorted(site_ids)
            if site_id not in standing
        }

    def gone(self, site_ids: Collection[str]) -> dict[str, str]:
        """Return who of these must not count, even with what was accepted already, and why.

        Whoever only has to approve again counts: it stood by the plan when it answered.
        """
        plan_digest = self._ledger.plan.digest
        each = {name: why_gone(self._desk, plan_digest, name) for name in sorted(site_ids)}
        return {site_id: reason for site_id, reason in each.items() if reason}

    def _seat(
        self, standing: Mapping[str, Approval], round_number: int, fixed: Collection[str]
    ) -> None:
        """Give seats to those who came in, and to whoever approved with other cases.

        Those who are ``fixed`` in this round get theirs from the next one on.
        """
        known = {seat.site_id: seat.num_cases for seat in self._ledger.seats}
        for site_id, approval in sorted(standing.items()):
            if known.get(site_id) != approval.num_cases:
                seat = Seat(site_id=site_id, num_cases=approval.num_cases)
                is_next = site_id in fixed
                self._ledger.seated(seat, from_round=round_number + is_next)

    def _too_few(self, round_number: int, seats: Sequence[Seat]) -> str:
        names = [seat.site_id for seat in seats]
        absent = "; ".join(f"{name} ({why})" for name, why in self.absent(names).items())
        run_id = self._ledger.facts.get("canary_of", self._ledger.run_id)
        return (
            f"Round {round_number} of {run_id}: {len(self._chosen)} of {len(seats)} sites can be "
            f"asked; {self.needed()} are needed. Without the others: {absent}. Nobody was asked, "
            "and the model was not changed. These sites: approve the plan again, or stay out; the "
            "study lead: bring others in, or agree on a plan with a lower quorum."
        )


class Seated:
    """An engine that asks those who take part, and leaves the others out with the reason."""

    def __init__(self, engine: Engine, seating: Seating) -> None:
        self._engine = engine
        self._seating = seating

    def select(self, *, round_number: int) -> Sequence[str]:
        """Return every seat of this round, sorted.

        Raises:
            QuorumError: Too few of them can be asked; see `Seating.choose`.
        """
        site_ids = self._seating.choose(round_number)
        self._engine.select(round_number=round_number)
        return site_ids

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Leave out who cannot be asked, then yield what the others answer."""
        absent = self._seating.absent(site_ids)
        for site_id, reason in absent.items():
            yield LeftOut(site_id=site_id, reason=reason)
        asked = [site_id for site_id in site_ids if site_id not in absent]
        yield from self._engine.ask(task, asked, deadline_s=deadline_s)

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Return who of these was revoked, or takes no part in the plan any more, and why."""
        found = self._seating.gone(site_ids)
        return [LeftOut(site_id=site_id, reason=reason) for site_id, reason in found.items()]

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def why_absent(desk: Desk, plan_digest: str, site_id: str) -> str:
    """Return in words why the approval of a site does not stand, or that there is none."""
    if reason := why_gone(desk, plan_digest, site_id):
        return reason
    members, word = desk.members(), desk.last_word(site_id, plan_digest)
    if not isinstance(word, Approval):
        return "has not approved the plan"
    if word.members_digest != members.digest:
        return f"has to approve again under member list {members.members_epoch}"
    return "its approval has expired"


def why_gone(desk: Desk, plan_digest: str, site_id: str) -> str:
    """Return why a site is out of a plan: revoked, refused or withdrawn; "" if it is not."""
    members = desk.members()
    if desk.is_cut_off(site_id) or site_id not in {site.site_id for site in members.sites}:
        return "revoked: no member any more"
    word = desk.last_word(site_id, plan_digest)
    if isinstance(word, Refusal):
        return f"refused the plan ({word.reason})"
    return "withdrew from the plan" if word == "withdrawn" else ""
