"""Federations of five real sites with a NumPy model, one of which may be faulty, under review."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from hospitals import cases_of, plan_of

from hospitium import algorithms, federation
from hospitium.algorithms.norm_bound import NORM_SUM, norm_sum
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.operations.reviewing import Reviewer
from hospitium.plan import Plan
from hospitium.site.agent import Site, answer
from hospitium.site.consent import Consent
from hospitium.state.home import Home
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import DirectEngine, Quiet
from hospitium.training import trainer_for
from hospitium.types import Answer, Seat, State, Task, Update

RUN = "held"
FAULTY = "site-2"
NUM_TRAIN, NUM_VAL = 40, 40

CASE_FAULTS: dict[str, Callable[[Cases], Cases]] = {
    "flipped labels": lambda cases: replace(cases, labels=1 - np.asarray(cases.labels)),
    "values x255": lambda cases: replace(cases, images=np.asarray(cases.images) * np.float32(255)),
}


def _changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Update], Update]:
    return lambda update: replace(
        update, delta={name: change(array) for name, array in update.delta.items()}
    )


UPDATE_FAULTS: dict[str, Callable[[Update], Update]] = {
    "sign flipped": _changed(lambda array: -array),
    "length stated x255": lambda update: replace(
        update, sums={**update.sums, NORM_SUM: norm_sum(255.0 * 2 ** _log2(update))}
    ),
    "scores not finite": lambda update: replace(
        update, sums={**update.sums, "not_finite": (3,), "n": (update.sums["n"][0] - 3,)}
    ),
    "NaN": _changed(lambda array: array * np.float32("nan")),
    "scaled beyond the bound": _changed(lambda array: array * np.float32(1e4)),
}


def _log2(update: Update) -> float:
    return -32 + update.sums[NORM_SUM].index(1) / 8


def plan_with(*, rounds: int = 8, quorum: int = 3, **review: object) -> Plan:
    """Return the plan of a small run: ten local steps of a logistic model."""
    plan = plan_of(rounds=rounds, steps=10, lr=0.02)
    return replace(
        plan,
        rounds=replace(plan.rounds, quorum=quorum),
        review=replace(plan.review, **review),
    )


def begin(home: Home, plan: Plan, *, num_sites: int = 5, fault: str = "") -> Path:
    """Write the cases of the sites and the first entry of the run; return its folder."""
    seats = [Seat(site_id=f"site-{n + 1}", num_cases=NUM_TRAIN) for n in range(num_sites)]
    folder = home.new_run(RUN)
    RunLedger.create(folder, run_id=RUN, plan=plan, seats=seats, facts={})
    for number, seat in enumerate(seats):
        cases = cases_of(NUM_TRAIN, seed=number, num_val=NUM_VAL)
        if seat.site_id == FAULTY and fault in CASE_FAULTS:
            cases = CASE_FAULTS[fault](cases)
        write_cases(folder / "cases" / seat.site_id, cases)
    return folder


def go_on(
    folder: Path,
    *,
    fault: str = "",
    is_faulty: Callable[[int], bool] = lambda number: True,
    silent: Callable[[str, int], bool] = lambda site_id, number: False,
    has_review: bool = True,
    clock: Callable[[], float] | None = None,
) -> State:
    """Run or resume to the end."""
    ledger = RunLedger(folder)
    plan, trainer = ledger.plan, trainer_for(ledger.plan, device="cpu")

    def act_of(site: Site) -> Callable[[Task], Answer]:
        def act(task: Task) -> Answer:
            update = answer(task, plan=plan, site=site, trainer=trainer)
            if silent(site.site_id, task.round_number):
                raise TimeoutError  # it has trained, and what it sent never came
            bad = fault in UPDATE_FAULTS and is_faulty(task.round_number)
            return UPDATE_FAULTS[fault](update) if bad and site.site_id == FAULTY else update

        return act

    sites = {
        seat.site_id: act_of(
            Site(
                site_id=seat.site_id,
                cases_folder=folder / "cases" / seat.site_id,
                folder=folder / "sites" / seat.site_id,
                consent=Consent(plan_digest=plan.digest, num_cases=seat.num_cases),
            )
        )
        for seat in ledger.seats
    }
    algorithm = algorithms.build(
        plan, run_id=RUN, seats=ledger.seats, first_params=trainer.first_params
    )
    review = Reviewer(ledger, clock=clock) if clock else Reviewer(ledger)
    more = (review,) if has_review else ()
    try:
        engine = DirectEngine(sites=sites)
        return federation.run(plan, algorithm, engine, ledger, Quiet(), *more)
    finally:
        ledger.close()
