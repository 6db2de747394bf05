"""How a run ends: the last params are scored, and the plan's rule says which are the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing

from hospitium.errors import QuorumError, UpdateError
from hospitium.operations.scores import score_of, score_part, threshold_of
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.types import Algorithm, Engine, LeftOut, Params, Sums, Task
from hospitium.wire import blob


def choose(ledger: RunLedger, algorithm: Algorithm, engine: Engine) -> Chosen:
    """Have the last params (and their running average) scored, and choose by the plan's rule."""
    plan, last = ledger.plan, ledger.last_closed
    candidates: list[tuple[int, str, Mapping[str, tuple[int, ...]]]] = []
    state = ledger.state_after(last)
    sums, without = _score(ledger, algorithm, engine, state.params)
    ledger.scored(last, sums)
    candidates.append((last, "params", sums))
    if plan.evaluation.choose == "best" and ledger.best_round() != last:
        best = ledger.best_round()
        kept = ledger.state_after(best).params
        sums, more = _score(ledger, algorithm, engine, kept)
        candidates.append((best, "params", sums))
        without += more
    if "ema" in state.slots:
        sums, more = _score(ledger, algorithm, engine, state.slots["ema"])
        candidates.append((last, "ema", sums))
        without += more
    score = score_of(plan)
    number, slot, chosen_sums = candidates[0]
    reason = f"The model is that of the last round, {last}, as the plan says."
    if plan.evaluation.choose == "best":
        number, slot, chosen_sums = max(
            candidates, key=lambda item: (_or_worst(score(item[2])), item[0])
        )
        what = (
            "the running average of the params"
            if slot == "ema"
            else f"the params of round {number}"
        )
        reason = (
            f"Of the params of all rounds, {what} had the best validation {plan.evaluation.metric}."
        )
    elif plan.algorithm.ema > 0:
        number, slot, chosen_sums = candidates[-1]
        reason = (
            "The model is the running average of the params after the last round, as the plan says."
        )
    return Chosen(
        round_number=number,
        slot=slot,
        digest=ledger.digests_after(number)[slot],
        reason=reason + _not_scored_by(without),
        threshold=threshold_of(plan, chosen_sums),
        sums=chosen_sums,
    )


def _not_scored_by(without: Sequence[str]) -> str:
    """Say whose validation cases the last scores and the threshold do without."""
    if not without:
        return ""
    return f" Scores and threshold are without {', '.join(dict.fromkeys(without))}."


def _or_worst(score: float | None) -> float:
    return -math.inf if score is None else score


def _score(
    ledger: RunLedger, algorithm: Algorithm, engine: Engine, params: Params
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Return the validation sums of some params, and which sites they are without, and why.

    What each site measured is recorded.
    """
    task = Task(
        run_id=ledger.run_id,
        round_number=ledger.plan.rounds.count + 1,
        plan_digest=ledger.plan.digest,
        params=params,
        base_digest=blob.digest_of(params),
        max_norm=1.0,
        purpose="score",
    )
    site_ids = engine.select(round_number=task.round_number)
    aggregate = algorithm.aggregate(task)
    without: list[str] = []
    by_site: dict[str, Sums] = {}
    with closing(engine.ask(task, site_ids, deadline_s=ledger.plan.rounds.deadline_s)) as answers:
        for answer in answers:
            if isinstance(answer, LeftOut):
                without.append(f"{answer.site_id} ({answer.reason})")
                continue
            try:
                aggregate.add(answer)
                by_site[answer.site_id] = answer.sums
            except UpdateError as error:  # a site that answers wrongly is as good as silent
                without.append(f"{answer.site_id} ({error.reason})")
    if aggregate.num_sites < ledger.plan.rounds.quorum:
        raise QuorumError(
            f"Last score: {aggregate.num_sites} of {len(site_ids)} sites scored the params; the "
            f"plan's quorum is {ledger.plan.rounds.quorum}. Without a score: "
            f"{'; '.join(without)}. All rounds are closed and kept. The study lead: bring these "
            f"sites back and resume the run with `hospitium run resume {ledger.run_id}`."
        )
    ledger.scored_by_site(task.base_digest, by_site)
    return score_part(aggregate.result().sums), without
