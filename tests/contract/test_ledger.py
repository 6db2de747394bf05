"""The contract of `hospitium.types.Ledger`, kept by `RunLedger`, the only one there is."""

import sqlite3
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from runs import create, score_of, seats, sites_by_name, small_plan

from hospitium import algorithms
from hospitium.errors import CorruptedError, StateConflictError, UnknownRunError
from hospitium.state import history
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.state.seats import NO_ANSWER
from hospitium.testing.fakes import first_params
from hospitium.types import LeftOut, Result

SITES = ["site-1", "site-2", "site-3"]


class Run:
    """A run that a test drives by hand, one call of the protocol after the other."""

    def __init__(self, folder, *, rounds=4, keep_last=2):
        self.folder = folder
        if not RunLedger.exists(folder):
            plan = small_plan(rounds=rounds)
            create(folder, replace(plan, rounds=replace(plan.rounds, keep_last=keep_last)))
        self.ledger = RunLedger(folder, score_of=score_of)
        self.algorithm = algorithms.build(
            self.ledger.plan, run_id="r", seats=seats(), first_params=first_params
        )

    def state(self):
        return (self.ledger.resume() or (self.algorithm.init(), 0))[0]

    def open(self, number=1):
        task = self.algorithm.task(self.state(), round_number=number)
        return task, self.ledger.opened(task, SITES)

    def update(self, task, site_id):
        return sites_by_name()[site_id](task)

    def close_round(self, task, site_ids=("site-1", "site-2"), loss=None):
        aggregate = self.algorithm.aggregate(task)
        for update in self.ledger.answered(task):
            aggregate.add(update)
        result = aggregate.result()
        if loss is not None:
            result = replace(result, sums={**result.sums, "loss": (loss, 1)})
        self.ledger.closed(task, self.algorithm.step(self.state(), result), result)

    def round(self, number, *, loss=None, site_ids=SITES):
        task, _ = self.open(number)
        for site_id in site_ids:
            self.ledger.received(self.update(task, site_id))
        self.close_round(task, loss=loss)


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    yield run
    run.ledger.close()


@pytest.fixture
def rival(run):
    """Another process that has the same run open."""
    rival = Run(run.folder)
    yield rival
    rival.ledger.close()


def rows_of(run):
    """Return the record without the files: there may be one too many, never one too few."""
    return {**run.ledger.record(), "blobs": None}


def chosen_after(run, number):
    digest = run.ledger.digests_after(number)["params"]
    return Chosen(
        round_number=number, slot="params", digest=digest, reason="best", threshold=None, sums={}
    )


def test_a_run_that_has_closed_no_round_resumes_from_nothing(run):
    assert run.ledger.resume() is None
    run.open()
    assert run.ledger.resume() is None


def test_the_state_after_a_closed_round_is_what_is_resumed(run):
    run.round(1)
    expected, number = run.ledger.resume()
    run.ledger.close()
    again = Run(run.folder)
    state, again_number = again.ledger.resume()
    assert number == again_number == 1
    assert state.memory == expected.memory and set(state.slots) == {"ema"}
    for name, array in expected.params.items():
        np.testing.assert_array_equal(state.params[name], array, strict=True)
        np.testing.assert_array_equal(state.slots["ema"][name], expected.slots["ema"][name])
    again.ledger.close()


def test_a_round_is_opened_for_all_and_gone_on_with_for_those_not_answered_for(run):
    task, waiting = run.open()
    assert waiting == SITES
    run.ledger.received(run.update(task, "site-2"))
    run.ledger.left_out(task, LeftOut(site_id="site-3", reason="deadline"))
    assert run.open()[1] == ["site-1"]


def test_accepted_updates_come_back_bit_for_bit_in_the_order_of_sites(run):
    task, _ = run.open()
    sent = [run.update(task, site_id) for site_id in ("site-3", "site-1")]
    for update in sent:
        run.ledger.received(update)
    found = list(run.ledger.answered(task))
    assert [update.site_id for update in found] == ["site-1", "site-3"]
    for update, expected in zip(found, sent[::-1], strict=True):
        assert replace(update, delta={}) == replace(expected, delta={})
        np.testing.assert_array_equal(update.delta["w"], expected.delta["w"], strict=True)


@pytest.mark.parametrize("bytes_left", [None, 0, 40])
def test_whose_accepted_update_a_power_cut_tore_counts_as_never_answered(run, bytes_left):
    task, _ = run.open()
    before = rows_of(run)
    run.ledger.received(run.update(task, "site-2"))
    accepted = rows_of(run)
    (path,) = {run.ledger.store.path(s["digest"]) for s in accepted["seats"] if s["digest"]}
    if bytes_left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:bytes_left])
    assert run.ledger.opened(task, SITES) == SITES
    assert list(run.ledger.answered(task)) == [] and rows_of(run) == before
    run.ledger.received(run.update(task, "site-2"))
    assert rows_of(run) == accepted
    assert [update.site_id for update in run.ledger.answered(task)] == ["site-2"]


def test_an_update_that_was_accepted_stays_accepted(run):
    task, _ = run.open()
    run.ledger.received(run.update(task, "site-1"))
    before = run.ledger.record()
    run.ledger.left_out(task, LeftOut(site_id="site-1", reason="deadline"))
    assert run.ledger.record() == before
    with pytest.raises(StateConflictError, match="Nothing was changed"):
        run.ledger.received(run.update(task, "site-1"))
    assert run.ledger.record() == before


def test_whoever_is_gone_while_the_round_is_open_is_as_one_that_never_answered(run, tmp_path):
    gone = [LeftOut(site_id=site_id, reason="withdrew") for site_id in ("site-1", "site-3")]
    task, _ = run.open()
    for site_id in ("site-1", "site-2"):
        run.ledger.received(run.update(task, site_id))
    assert run.ledger.struck(task, gone) == gone[:1]
    assert run.ledger.struck(task, gone) == []
    run.close_round(task)
    other = Run(tmp_path / "other")
    task, _ = other.open()
    other.ledger.left_out(task, gone[0])
    other.ledger.received(other.update(task, "site-2"))
    other.close_round(task)
    assert run.ledger.record() == other.ledger.record()
    other.ledger.close()


def test_of_a_closed_round_nobody_is_struck(run):
    run.round(1)
    before = run.ledger.record()
    task = run.algorithm.task(run.algorithm.init(), round_number=1)
    with pytest.raises(StateConflictError):
        run.ledger.struck(task, [LeftOut(site_id="site-1", reason="withdrew")])
    assert run.ledger.record() == before


def test_a_site_that_was_left_out_cannot_answer_afterwards(run):
    task, _ = run.open()
    run.ledger.left_out(task, LeftOut(site_id="site-1", reason="deadline"))
    with pytest.raises(StateConflictError, match="site-1"):
        run.ledger.received(run.update(task, "site-1"))
    assert list(run.ledger.answered(task)) == []


def test_a_refusal_leaves_the_seat_open_and_is_its_reason_if_nothing_better_comes(run):
    task, _ = run.open()
    for site_id in ("site-1", "site-2"):
        run.ledger.refused(task, LeftOut(site_id=site_id, reason="norm"))
    run.ledger.received(run.update(task, "site-1"))
    run.close_round(task)
    row = history.participation(run.ledger)[0]
    assert row["answered"] == ["site-1"]
    assert row["left_out"] == [
        {"site_id": "site-2", "reason": "norm"},
        {"site_id": "site-3", "reason": NO_ANSWER},
    ]
    assert [item["site_id"] for item in row["refused"]] == ["site-1", "site-2"]


def test_below_quorum_accepted_updates_are_kept_and_the_others_asked_again(run):
    task, _ = run.open()
    run.ledger.received(run.update(task, "site-2"))
    run.ledger.left_out(task, LeftOut(site_id="site-1", reason="died"))
    without = run.ledger.below_quorum(task)
    assert without == [
        LeftOut(site_id="site-1", reason="died"),
        LeftOut(site_id="site-3", reason=NO_ANSWER),
    ]
    assert run.open()[1] == ["site-1", "site-3"]
    assert [update.site_id for update in run.ledger.answered(task)] == ["site-2"]
    assert history.participation(run.ledger)[0]["attempts"] == 2


def test_a_round_closed_by_another_process_cannot_be_closed_again(run, rival):
    task, _ = run.open()
    run.ledger.received(run.update(task, "site-1"))
    rival.close_round(task)
    before = rows_of(rival)
    with pytest.raises(StateConflictError, match="Nothing was changed"):
        run.close_round(task)
    assert rows_of(rival) == before
    assert run.ledger.last_closed == 1


def test_a_round_closed_by_another_process_takes_no_update(run, rival):
    task, _ = run.open()
    run.ledger.received(run.update(task, "site-1"))
    rival.close_round(task)
    before = rows_of(rival)
    with pytest.raises(StateConflictError, match="site-2"):
        run.ledger.received(run.update(task, "site-2"))
    assert rows_of(rival) == before


def test_a_round_that_is_open_on_other_params_is_not_gone_on_with(run, rival):
    run.round(1)
    task, _ = run.open(2)
    other = replace(task, base_digest="0" * 64)
    with pytest.raises(StateConflictError, match="asked for 000000000000"):
        rival.ledger.opened(other, SITES)


def test_of_two_that_finish_a_run_the_second_is_refused(run, rival):
    run.round(1)
    run.ledger.finished(chosen_after(run, 1))
    with pytest.raises(StateConflictError, match="Finishing r"):
        rival.ledger.finished(replace(chosen_after(run, 1), reason="another"))
    assert rival.ledger.chosen().reason == "best"


def test_an_answer_counts_once_even_if_two_processes_take_it(run, rival):
    task, _ = run.open()
    run.ledger.received(run.update(task, "site-1"))
    with pytest.raises(StateConflictError):
        rival.ledger.received(rival.update(task, "site-1"))
    assert len(list(run.ledger.answered(task))) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE rounds SET params_digest = 'x' WHERE round_number = 1",
        "UPDATE rounds SET status = 'open' WHERE round_number = 1",
        "UPDATE rounds SET sums = '{}' WHERE round_number = 1",
        "UPDATE seats SET status = 'asked' WHERE site_id = 'site-1'",
        "UPDATE seats SET status = 'left_out' WHERE site_id = 'site-1'",
        "UPDATE run SET status = 'running'",
    ],
)
def test_what_is_over_stays_over_whoever_writes_to_the_file(run, sql):
    run.round(1)
    run.ledger.finished(chosen_after(run, 1))
    before = run.ledger.record()
    connection = sqlite3.connect(run.folder / "ledger.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="stays"):
        connection.execute(sql)
    connection.close()
    assert run.ledger.record() == before


def test_a_second_run_of_the_same_name_is_refused_and_the_first_is_untouched(run):
    run.round(1)
    before = run.ledger.record()
    with pytest.raises(StateConflictError, match="run resume r"):
        create(run.folder, small_plan(rounds=9))
    assert run.ledger.record() == before


def test_a_folder_without_a_run_is_not_taken_for_one(tmp_path):
    assert not RunLedger.exists(tmp_path)
    with pytest.raises(UnknownRunError, match="never begun"):
        RunLedger(tmp_path)


def test_the_params_of_the_best_round_outlive_those_of_later_ones(run):
    for number, loss in enumerate([9, 1, 5, 7], start=1):  # of the params that come in
        run.round(number, loss=loss)
    assert run.ledger.best_round() == 1
    assert run.ledger.best_score() == -1
    run.ledger.state_after(1)
    run.ledger.state_after(3)
    with pytest.raises(CorruptedError):
        run.ledger.state_after(2)


@pytest.mark.parametrize("keep_last", [1, 3])
def test_the_params_of_the_last_k_rounds_are_kept(tmp_path, keep_last):
    run = Run(tmp_path / "run", keep_last=keep_last)
    for number, loss in enumerate([9, 1, 5, 7], start=1):
        run.round(number, loss=loss)
    kept = {1} | {4 - back for back in range(keep_last)}
    expected = {d for number in kept for d in run.ledger.digests_after(number).values()}
    assert run.ledger.store.digests() == expected
    run.ledger.close()


def test_updates_are_gone_when_their_round_is_closed(run):
    task, _ = run.open()
    for site_id in SITES:
        run.ledger.received(run.update(task, site_id))
    assert len(run.ledger.store.digests()) == 4
    run.close_round(task)
    assert run.ledger.store.digests() == set(run.ledger.digests_after(1).values())


def test_the_chosen_params_are_kept_whatever_else_goes(run):
    for number in (1, 2, 3, 4):
        run.round(number)
    chosen = replace(chosen_after(run, 4), slot="ema", digest=run.ledger.digests_after(4)["ema"])
    run.ledger.finished(chosen)
    assert run.ledger.is_finished and run.ledger.chosen() == chosen
    run.ledger.resume()
    assert run.ledger.store.get(chosen.digest)["w"].shape == (4,)


def test_a_closed_ledger_can_be_opened_again_and_says_the_same(run):
    run.round(1)
    before = run.ledger.record()
    run.ledger.close()
    run.ledger.close()
    again = RunLedger(run.folder)
    assert again.record() == before
    assert (again.run_id, again.plan, again.seats) == ("r", run.ledger.plan, tuple(seats()))
    again.close()


def test_every_resumption_is_noted_and_no_part_of_the_record(run):
    run.round(1)
    before = run.ledger.record()
    noted = len(history.interruptions(run.ledger))
    run.ledger.resume()
    assert len(history.interruptions(run.ledger)) == noted + 1
    assert run.ledger.record() == before


def test_an_interruption_in_round_1_is_noted_too(run):
    run.open()
    run.ledger.resume()
    assert [row["round"] for row in history.interruptions(run.ledger)] == [0]


def test_the_time_between_the_last_write_and_a_resumption_is_in_no_span(run):
    run.round(1)
    run.ledger.resume()
    run.round(2)
    spans = history.spans(run.ledger)
    assert len(spans) == 1 + len(history.interruptions(run.ledger))
    assert all(begin <= end for begin, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_who_took_part_is_said_of_each_round(run):
    run.round(1, site_ids=["site-1", "site-3"])
    run.round(2)
    first, second = history.participation(run.ledger)
    assert first["asked"] == second["asked"] == SITES
    assert first["answered"] == ["site-1", "site-3"]
    assert first["left_out"] == [{"site_id": "site-2", "reason": NO_ANSWER}]
    assert (second["answered"], second["left_out"], second["refused"]) == (SITES, [], [])


def test_the_score_of_a_round_is_that_of_the_params_that_it_made(run):
    run.round(1, loss=8)
    run.round(2, loss=3)
    run.ledger.scored(2, {"loss": (2, 1)})
    run.ledger.scored(2, {"loss": (1, 1)})
    assert [row["score"] for row in run.ledger.record()["rounds"]] == [-3, -2]


def test_what_each_site_measured_after_the_last_round_is_kept_and_takes_the_place_of_before(run):
    assert history.last_scores(run.ledger, "a" * 64) == {}
    run.ledger.scored_by_site("a" * 64, {"site-2": {"loss": (5,)}, "site-1": {"loss": (4,)}})
    run.ledger.scored_by_site("b" * 64, {"site-1": {"loss": (9,)}})
    run.ledger.scored_by_site("a" * 64, {"site-1": {"loss": (3,), "n": (2,)}})
    assert history.last_scores(run.ledger, "a" * 64) == {"site-1": {"loss": (3,), "n": (2,)}}
    assert history.last_scores(run.ledger, "b" * 64) == {"site-1": {"loss": (9,)}}


def test_a_run_that_is_over_keeps_what_its_sites_measured(run, rival):
    run.round(1)
    run.ledger.scored_by_site("a" * 64, {"site-1": {"loss": (4,)}})
    run.ledger.finished(chosen_after(run, 1))
    with pytest.raises(StateConflictError):
        rival.ledger.scored_by_site("a" * 64, {"site-2": {"loss": (9,)}})
    assert history.last_scores(run.ledger, "a" * 64) == {"site-1": {"loss": (4,)}}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_none(run, loss):
    run.ledger.score_of = lambda sums: loss
    run.round(1)
    run.ledger.scored(1, {})
    assert run.ledger.best_score() is None
    assert run.ledger.best_round() == run.ledger.last_closed == 1


def test_a_score_only_answer_has_nothing_to_store(run):
    task, _ = run.open()
    run.ledger.received(replace(run.update(task, "site-1"), delta={}))
    row = run.ledger.rows("SELECT status, digest FROM seats WHERE site_id = 'site-1'")[0]
    assert row == {"status": "accepted", "digest": None}


def test_a_round_closes_all_at_once_or_not_at_all(run):
    task, _ = run.open()
    run.ledger.received(run.update(task, "site-1"))
    before = rows_of(run)
    state = run.algorithm.init()
    broken = Result(delta={}, sum_weight=1 << 80, site_ids=frozenset({"site-1"}), sums={})
    with pytest.raises(OverflowError):
        run.ledger.closed(task, state, broken)
    assert rows_of(run) == before
    run.close_round(task)
    assert run.ledger.last_closed == 1
