"""The round loop: ask the sites, add up what comes back, step; read this file first."""

from __future__ import annotations

from contextlib import closing

from hospitium.errors import QuorumError, UpdateError
from hospitium.plan import Plan
from hospitium.types import (
    NO_REVIEW,
    Aggregate,
    Algorithm,
    Answer,
    Engine,
    Ledger,
    LeftOut,
    Progress,
    Review,
    State,
    Task,
)


def run(
    plan: Plan,
    algorithm: Algorithm,
    engine: Engine,
    ledger: Ledger,
    progress: Progress,
    review: Review = NO_REVIEW,
) -> State:
    """Train one model across the sites of a federation, round by round.

    An interrupted run goes on from the last closed round in its ledger, with the updates that the
    open round had already accepted, and ends with the same bits as an unbroken one.

    Raises:
        QuorumError: Too few usable updates. The model is unchanged; the run can be resumed.
        HeldError: A person must decide about an update first; the run can be resumed then.
    """
    state, last_closed = ledger.resume() or (algorithm.init(), 0)
    for round_number in range(last_closed + 1, plan.rounds.count + 1):
        task = algorithm.task(state, round_number=round_number)
        site_ids = engine.select(round_number=round_number)
        waiting = ledger.opened(task, site_ids)
        progress.round_opened(plan, task, site_ids)

        aggregate = _accepted(task, algorithm=algorithm, ledger=ledger)
        with closing(engine.ask(task, waiting, deadline_s=plan.rounds.deadline_s)) as answers:
            for it in answers:
                progress.answer(task, _receive(it, task=task, aggregate=aggregate, ledger=ledger))
                del it
        if taken_out := [*ledger.struck(task, engine.gone(site_ids)), *review.held(task)]:
            del aggregate
            aggregate = _accepted(task, algorithm=algorithm, ledger=ledger)
            for left_out in taken_out:
                progress.answer(task, left_out)
        _require_enough(plan, task, aggregate, ledger=ledger, review=review)
        result = aggregate.result()
        del aggregate  # its memory, twice that of the model, is the result's now

        state = ledger.closed(task, algorithm.step(state, result), result)
        progress.round_closed(plan, task, result)
        del result
    return state


def _accepted(task: Task, *, algorithm: Algorithm, ledger: Ledger) -> Aggregate:
    """Add up the updates that are accepted by now: before an interruption, or without some.

    Both are the same sum of the same integers, so that a round which somebody has left ends with
    the bits of one in which they never answered.
    """
    aggregate = algorithm.aggregate(task)
    for update in ledger.answered(task):
        aggregate.add(update)
    return aggregate


def _receive(answer: Answer, *, task: Task, aggregate: Aggregate, ledger: Ledger) -> Answer:
    """Add an update and record it, or record why it does not count; return what became of it."""
    if isinstance(answer, LeftOut):
        ledger.left_out(task, answer)
        return answer
    try:
        aggregate.add(answer)
    except UpdateError as error:
        refused = LeftOut(site_id=answer.site_id, reason=error.reason)
        ledger.refused(task, refused)
        return refused
    ledger.received(answer)
    return answer


def _require_enough(
    plan: Plan, task: Task, aggregate: Aggregate, *, ledger: Ledger, review: Review
) -> None:
    """Stop with the model unchanged where too few updates were usable, or a person must decide."""
    found = aggregate.num_sites
    review.require_decided(task, num_sites=found)
    if found >= plan.rounds.quorum:
        return
    without = ledger.below_quorum(task)
    listed = "; ".join(f"{item.site_id} ({item.reason})" for item in without) or "nobody"
    raise QuorumError(
        f"Round {task.round_number}: {found} of {found + len(without)} sites gave a usable update; "
        f"the plan's quorum is {plan.rounds.quorum}. Without one: {listed}. The model was not "
        "changed. The study lead: bring these sites back and resume the run with "
        f"`hospitium run resume {task.run_id}`, or agree on a plan with a lower quorum."
    )
