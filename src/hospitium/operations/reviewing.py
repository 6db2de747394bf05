"""Looking at the updates of a round before they count, and holding the odd ones.

It sees single updates, so it does not exist where sums are secure. It needs one sum of the size of
the model, before anything else of the round is in memory; each update is read through its map.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from hospitium.algorithms.norm_bound import NORM_SUM, log2_norm
from hospitium.errors import HeldError
from hospitium.evaluation.review_measures import Directions, scored
from hospitium.evaluation.review_rules import (
    LONGEST_PAST,
    MEASURES,
    MILLION,
    Figures,
    Past,
    judge,
    middle_of,
)
from hospitium.operations.scores import score_part
from hospitium.state.holding import BY_DEADLINE, HELD, Found
from hospitium.state.ledger import RunLedger
from hospitium.types import LeftOut, Task, Update

SEAT_CONFLICT = "seat_conflict"
"""Why an update is held whose site gave another answer to the same task too."""

LEAST_STEPS = 10
"""A change of fewer local steps is mostly that of the cases that were drawn: its length and its
direction are measured and not judged. In a plan of one step, honest sites point away from one
another, and a batch of one case makes longer changes than one of fifty."""


class Reviewer:
    """The review of one run, as the round loop asks for it.

    What was found of an update is in the ledger before anything follows from it, and is not found
    again: a resumed round comes to the same updates.

    Args:
        ledger: Of the run.
        clock: Seconds since 1970, for the deadline of a decision.
    """

    def __init__(self, ledger: RunLedger, *, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rules = ledger.plan.review

    def held(self, task: Task) -> Sequence[LeftOut]:
        """Look at what was accepted and not looked at yet; hold the odd ones, and return them.

        Whoever gave different answers to one task is held, even where the plan looks at nothing.
        """
        number = task.round_number
        digests = self._ledger.reviews.to_look_at(number)
        twice = set(digests) & self._ledger.log.conflicting(number)
        if self._rules.mode == "off":
            digests = {site_id: digests[site_id] for site_id in twice}
        if not digests:
            return ()
        found = [
            replace(it, verdict=HELD, why=[*it.why, SEAT_CONFLICT]) if it.site_id in twice else it
            for it in self._found(task, digests=digests)
        ]
        self._ledger.reviews.record(number, found)
        return [LeftOut(site_id=it.site_id, reason=HELD) for it in found if it.verdict == HELD]

    def require_decided(self, task: Task, *, num_sites: int) -> None:
        """Return where the round may close without those who are held.

        Raises:
            HeldError: A person must decide first: the plan waits for it, or too few are left.
        """
        number = task.round_number
        pending = self._ledger.reviews.pending(number)
        enough = num_sites >= self._ledger.plan.rounds.quorum
        if not pending or (enough and self._rules.on_held == "go_on"):
            return
        if enough and all(self._is_late(since) for since in pending.values()):
            for site_id in sorted(pending):
                self._ledger.reviews.decide(
                    number, site_id, "excluded", by=BY_DEADLINE, reason="review.deadline_s"
                )
            return
        why = (
            "the plan waits for a person's decision"
            if enough
            else f"without them {num_sites} usable updates are left, and the plan's quorum is "
            f"{self._ledger.plan.rounds.quorum}"
        )
        raise HeldError(
            f"Round {number}: the updates of {', '.join(sorted(pending))} are held, and {why}. "
            "Nothing of them counts, and the model was not changed. A reviewer: look at them with "
            f"`hospitium run review {task.run_id}`, ask these sites, then release or exclude each; "
            f"then `hospitium run resume {task.run_id}`."
        )

    # --- inside ---------------------------------------------------------------------------------

    def _found(self, task: Task, *, digests: Mapping[str, str]) -> list[Found]:
        """Judge these updates among all of the round that were measured by now."""
        number = task.round_number
        known = {row["site_id"]: row["figures"] for row in self._ledger.reviews.of_round(number)}
        family: dict[str, Figures] = {**known, **self._figures(task, of=digests)}
        past = self._past(number)
        measures = set(MEASURES)
        if self._ledger.plan.training.steps < LEAST_STEPS:
            measures -= {"norm", "cosine"}
        found = []
        for site_id in sorted(digests):
            judged = judge(
                site_id,
                family=family,
                past=past.get(site_id, ()),
                flag_at=self._rules.flag_at,
                hold_at=self._rules.hold_at,
                lasting_at=self._rules.lasting_at,
                measures=measures,
            )
            found.append(
                Found(
                    site_id=site_id,
                    digest=digests[site_id],
                    verdict=judged.verdict,
                    figures=family[site_id],
                    scores=judged.scores,
                    why=judged.why,
                )
            )
        return found

    def _figures(self, task: Task, *, of: Collection[str]) -> dict[str, Figures]:
        """Measure the updates of these sites; each is read twice, one after the other."""
        directions = Directions()
        for update in self._ledger.answered(task):
            directions.add(update.site_id, update.delta)
            del update
        found: dict[str, Figures] = {}
        for update in self._ledger.answered(task):
            if update.site_id in of:
                cosine = directions.cosine(update.site_id, update.delta)
                found[update.site_id] = _figures_of(update, cosine)
            del update
        return found

    def _past(self, number: int) -> Mapping[str, Sequence[Past]]:
        """Return the last rounds of each site before one, the oldest first."""
        rounds: dict[int, list[dict[str, Any]]] = {}
        for row in self._ledger.reviews.before(number, last=LONGEST_PAST):
            rounds.setdefault(row["round_number"], []).append(row)
        past: dict[str, list[Past]] = {}
        for rows in rounds.values():
            middle = middle_of({row["site_id"]: row["figures"] for row in rows})
            for row in rows:
                known = Past(
                    figures=row["figures"],
                    middle=middle,
                    scores=row["scores"],
                    is_held=row["verdict"] == HELD,
                    is_released=row["decision"] == "released",
                )
                past.setdefault(row["site_id"], []).append(known)
        return past

    def _is_late(self, since: str) -> bool:
        waited_s = self._clock() - datetime.fromisoformat(since).timestamp()
        return waited_s > self._rules.deadline_s


def _figures_of(update: Update, cosine: float | None) -> Figures:
    """Return what was measured of an update, in millionths."""
    found = scored(score_part(update.sums))
    if NORM_SUM in update.sums:
        found["norm"] = round(MILLION * log2_norm(update.sums[NORM_SUM]))
    if cosine is not None:
        found["cosine"] = round(MILLION * cosine)
    return found
