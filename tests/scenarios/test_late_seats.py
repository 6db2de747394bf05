"""A site that comes in while a run goes on: weights of each round, the same bits after a kill."""

import os
from functools import partial

import numpy as np
import pytest
from runs import create, score_of, seats, sites_by_name, small_plan

from hospitium import algorithms, federation
from hospitium.algorithms.seated import Seated
from hospitium.algorithms.weights import weights
from hospitium.errors import StateConflictError
from hospitium.privacy.exact_sum import scale_for
from hospitium.state import durable
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import DirectEngine, Quiet, first_params
from hospitium.types import Seat

NEWCOMER = Seat(site_id="site-3", num_cases=seats()[2].num_cases)


class WithNewcomer:
    """An engine that gives a site its seat when a round is chosen for."""

    def __init__(self, ledger, *, from_round):
        self._ledger = ledger
        self._from_round = from_round
        self._engine = DirectEngine(sites=sites_by_name())

    def select(self, *, round_number):
        known = {seat.site_id for seat in self._ledger.seats}
        if round_number >= self._from_round and NEWCOMER.site_id not in known:
            self._ledger.seated(NEWCOMER, from_round=round_number)
        return sorted(seat.site_id for seat in self._ledger.seats_of(round_number))

    def ask(self, task, site_ids, *, deadline_s):
        return self._engine.ask(task, site_ids, deadline_s=deadline_s)

    def gone(self, site_ids):
        return ()

    def close(self):
        pass


def begin(folder):
    plan = small_plan(rounds=4)
    RunLedger.create(folder, run_id="r", plan=plan, seats=seats()[:2], facts={})


def go_on(folder, *, from_round=3):
    ledger = RunLedger(folder, score_of=score_of)
    build = partial(
        algorithms.build,
        ledger.plan,
        run_id="r",
        first_params=first_params,
        sum_lengths={"loss": 2},
    )
    algorithm = Seated(build=lambda found: build(seats=found), seats_of=ledger.seats_of)
    engine = WithNewcomer(ledger, from_round=from_round)
    try:
        state = federation.run(ledger.plan, algorithm, engine, ledger, Quiet())
        return state, ledger.record()
    finally:
        ledger.close()


def test_a_newcomer_is_asked_from_its_round_on_and_weighs_what_the_seats_say(tmp_path):
    begin(tmp_path)
    _, record = go_on(tmp_path)
    asked = [row["site_id"] for row in record["seats"] if row["status"] == "accepted"]
    assert asked == ["site-1", "site-2"] * 2 + ["site-1", "site-2", "site-3"] * 2
    shares = [
        sum(weights(found, exponent=1.0, max_share=0.5).values())
        for found in (seats()[:2], seats()[:2], seats(), seats())
    ]
    assert [row["sum_weight"] for row in record["rounds"]] == shares
    assert record["late_seats"] == [
        {"site_id": "site-3", "num_cases": NEWCOMER.num_cases, "from_round": 3}
    ]


def test_who_is_there_from_round_1_on_is_as_good_as_there_from_the_beginning(tmp_path):
    begin(tmp_path / "late")
    create(tmp_path / "early", small_plan(rounds=4))
    late, _ = go_on(tmp_path / "late", from_round=1)
    early, _ = go_on(tmp_path / "early", from_round=1)
    for name, array in early.params.items():
        np.testing.assert_array_equal(late.params[name], array)


def test_a_run_with_a_newcomer_killed_at_any_write_point_ends_as_an_unbroken_one(tmp_path):
    begin(tmp_path / "unbroken")
    points = []
    durable.on_write_point = points.append
    state, record = go_on(tmp_path / "unbroken")
    durable.on_write_point = None
    assert "after commit: seated" in points
    for index in range(0, len(points), 7):
        folder = tmp_path / str(index)
        begin(folder)
        assert _die_at(index, folder) == 137, points[index]
        resumed, resumed_record = go_on(folder)
        assert resumed_record == record, (index, points[index])
        for name, array in state.params.items():
            np.testing.assert_array_equal(resumed.params[name], array)


def test_a_closed_round_gets_no_further_seat_and_a_seat_may_change_its_cases(tmp_path):
    begin(tmp_path)
    go_on(tmp_path)
    ledger = RunLedger(tmp_path)
    with pytest.raises(StateConflictError, match="closed round gets no further seat"):
        ledger.seated(Seat(site_id="site-4", num_cases=5), from_round=4)
    ledger.seated(Seat(site_id="site-1", num_cases=77), from_round=5)
    assert {seat.site_id: seat.num_cases for seat in ledger.seats_of(5)}["site-1"] == 77
    assert ledger.seats_of(4) == tuple(seats())
    assert [seat.site_id for seat in ledger.seats] == ["site-1", "site-2", "site-3"]
    ledger.close()


def test_weights_do_not_depend_on_the_order_in_which_seats_came():
    draw = np.random.default_rng(3)
    for _ in range(50):
        found = [
            Seat(site_id=f"site-{n}", num_cases=int(draw.integers(1, 5000)))
            for n in range(int(draw.integers(1, 30)))
        ]
        turned = [found[n] for n in draw.permutation(len(found))]
        options = {"exponent": float(draw.choice([0.0, 0.5, 1.0])), "max_share": 0.3}
        assert weights(found, **options) == weights(turned, **options)


def test_the_scale_of_the_exact_sum_is_the_same_for_any_number_of_sites_that_come_in():
    assert {scale_for(max_norm=1.7, max_sites=number) for number in (1, 2, 50, 2048)} == {
        scale_for(max_norm=1.7, max_sites=3)
    }


def _die_at(index, folder):
    """Run in a child that is gone at the write point of this number; return its exit status."""
    child = os.fork()
    if child == 0:  # os._exit: nothing is flushed, closed or rolled back
        seen = iter(range(1 << 30))
        durable.on_write_point = lambda _: os._exit(137) if next(seen) == index else None
        try:
            go_on(folder)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
