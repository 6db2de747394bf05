"""A site that gave two answers to one task: a person hears of it, whatever the plan looks at."""

from dataclasses import replace

import pytest
from runs import seats, sites_by_name, small_plan

from hospitium import algorithms
from hospitium.operations.reviewing import SEAT_CONFLICT, Reviewer
from hospitium.operations.runs import show_run
from hospitium.state.home import Home
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import first_params
from hospitium.types import LeftOut


@pytest.mark.parametrize("mode", ["off", "hold"])
def test_whoever_gave_two_answers_is_held_and_named(tmp_path, mode):
    plan = small_plan()
    plan = replace(plan, review=replace(plan.review, mode=mode))
    folder = tmp_path / "runs" / "r"
    RunLedger.create(folder, run_id="r", plan=plan, seats=seats(), facts={})
    ledger = RunLedger(folder)
    algorithm = algorithms.build(plan, run_id="r", seats=seats(), first_params=first_params)
    task = algorithm.task(algorithm.init(), round_number=1)
    ledger.opened(task, list(sites_by_name()))
    for site in sites_by_name().values():
        ledger.received(site(task))
    assert Reviewer(ledger).held(task) == () or mode == "hold"
    if mode == "off":
        ledger.log.conflict(1, "site-2", {"a" * 64: b"one", "b" * 64: b"two"})
        assert Reviewer(ledger).held(task) == [LeftOut(site_id="site-2", reason="held")]
        assert [update.site_id for update in ledger.answered(task)] == ["site-1", "site-3"]
        (row,) = ledger.reviews.odd()
        assert row["why"] == [SEAT_CONFLICT]
    ledger.close()
    conflicts = show_run(Home(tmp_path), "r")["conflicts"]
    assert [row["site_id"] for row in conflicts] == (["site-2"] if mode == "off" else [])
