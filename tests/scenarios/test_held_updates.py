"""Odd updates do not count until a person says so, and never once their round is closed."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest
from reviewed import CASE_FAULTS, FAULTY, RUN, begin, go_on, plan_with

from hospitium.errors import (
    HeldError,
    QuorumError,
    RunBusyError,
    StateConflictError,
    UsageError,
)
from hospitium.operations import held_updates
from hospitium.operations.runs import show_run
from hospitium.state import durable
from hospitium.state.history import participation
from hospitium.state.home import Home, locked
from hospitium.state.ledger import RunLedger

HELD = [
    "sign flipped",
    *(pytest.param(fault, marks=pytest.mark.ci) for fault in CASE_FAULTS),
    pytest.param("scores not finite", marks=pytest.mark.ci),
]
REFUSED = {"NaN": "non_finite", "scaled beyond the bound": "norm"}
LONG = "length stated x255"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def odd(folder, verdict="held"):
    ledger = RunLedger(folder)
    rows = [row for row in ledger.reviews.odd() if row["verdict"] == verdict]
    ledger.close()
    return rows


def record(folder):
    ledger = RunLedger(folder)
    found = {**ledger.record(), "leaves": ledger.log.leaves()}
    ledger.close()
    return found


def left_out(folder):
    ledger = RunLedger(folder)
    rows = participation(ledger)
    ledger.close()
    return {
        row["round"]: {each["site_id"]: each["reason"] for each in row["left_out"]} for row in rows
    }


def same(one, other):
    return all(np.array_equal(one.params[name], other.params[name]) for name in one.params)


def decide(home, decision="released", **changes):
    fields = {"site_id": FAULTY, "round_number": 1, "by": "Ada Berg", "reason": "asked them"}
    return held_updates.decide(home, RUN, decision=decision, **{**fields, **changes})


# --- what is held ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", HELD)
def test_a_faulty_site_is_held_and_no_other(home, fault):
    folder = begin(home, plan_with(), fault=fault)
    go_on(folder, fault=fault)
    held = odd(folder)
    assert {row["site_id"] for row in held} == {FAULTY} and held[0]["status"] == "left_out"
    out = left_out(folder)
    assert {number for number, who in out.items() if who} == {r["round_number"] for r in held}
    assert all(who in ({}, {FAULTY: "held"}) for who in out.values())


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_gate_refuses_is_not_even_looked_at(home, fault):
    folder = begin(home, plan_with(rounds=2), fault=fault)
    go_on(folder, fault=fault)
    assert left_out(folder) == {number: {FAULTY: REFUSED[fault]} for number in (1, 2)}
    ledger = RunLedger(folder)
    assert FAULTY not in {row["site_id"] for row in ledger.reviews.of_round(1)}
    ledger.close()


def test_a_run_without_a_fault_ends_with_the_bits_of_one_without_review(home, tmp_path):
    other = Home(tmp_path / "other")
    folder, plain = begin(home, plan_with()), begin(other, plan_with())
    state, without = go_on(folder), go_on(plain, has_review=False)
    assert same(state, without) and odd(folder) == []
    looked_at, unseen = record(folder), record(plain)
    assert len(looked_at.pop("reviews")) == 40 and unseen.pop("reviews") == []
    assert looked_at == unseen


def test_where_the_plan_says_off_nothing_is_looked_at(home):
    folder = begin(home, plan_with(mode="off"), fault=LONG)
    go_on(folder, fault=LONG)
    assert record(folder)["reviews"] == [] and not any(left_out(folder).values())
    assert held_updates.review_of(home, RUN)["updates"] == []


def test_a_change_of_few_local_steps_is_measured_and_not_judged(home):
    plan = plan_with(rounds=1)
    folder = begin(home, replace(plan, training=replace(plan.training, steps=9)), fault=LONG)
    go_on(folder, fault=LONG)
    found = {row["site_id"]: row for row in record(folder)["reviews"]}
    assert found[FAULTY]["verdict"] == "clear"
    assert {"norm", "cosine"} <= set(found[FAULTY]["figures"])
    assert set(found[FAULTY]["scores"]) == {"auroc", "loss"}


def test_a_held_update_is_as_one_that_never_came(home, tmp_path):
    other = Home(tmp_path / "other")
    folder, plain = begin(home, plan_with()), begin(other, plan_with())
    state = go_on(folder, fault=LONG, is_faulty=lambda number: number in (2, 5))
    without = go_on(
        plain, has_review=False, silent=lambda site, number: site == FAULTY and number in (2, 5)
    )
    assert same(state, without)
    assert [row["round_number"] for row in odd(folder)] == [2, 5]


@pytest.mark.ci
def test_killed_around_a_hold_a_run_ends_as_an_unbroken_one(home, tmp_path):
    folder = begin(home, plan_with(rounds=2), fault=LONG)
    points: list[str] = []
    durable.on_write_point = points.append
    state = go_on(folder, fault=LONG)
    durable.on_write_point = None
    unbroken = record(folder)
    first = points.index("before commit: reviewed")
    deaths = range(first - 2, points.index("after commit: closed") + 4)
    for index in deaths:
        place = begin(Home(tmp_path / str(index)), plan_with(rounds=2), fault=LONG)
        assert die_at(index, place) == 137
        assert same(go_on(place, fault=LONG), state), points[index]
        assert record(place) == unbroken, points[index]


def die_at(index, folder):
    """Run in a child that is gone at the write point of this number; return its exit status."""
    child = os.fork()
    if child == 0:
        seen = iter(range(1 << 30))
        durable.on_write_point = lambda _: os._exit(137) if next(seen) == index else None
        try:
            go_on(folder, fault=LONG)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- where the plan waits --------------------------------------------------------------------


@pytest.fixture
def waiting(home):
    """A run that stands in round 1, because its plan waits for a person."""
    folder = begin(home, plan_with(rounds=3, on_held="wait"), fault=LONG)
    with pytest.raises(HeldError):
        go_on(folder, fault=LONG, is_faulty=lambda number: number == 1)
    return folder


def resumed(folder, **changes):
    return go_on(folder, fault=LONG, is_faulty=lambda number: number == 1, **changes)


def test_a_waiting_run_says_who_is_held_and_what_to_do_and_changes_nothing(waiting, home):
    before = record(waiting)
    with pytest.raises(HeldError) as caught:
        resumed(waiting)
    assert str(caught.value) == (
        "Round 1: the updates of site-2 are held, and the plan waits for a person's decision. "
        "Nothing of them counts, and the model was not changed. A reviewer: look at them with "
        "`hospitium run review held`, ask these sites, then release or exclude each; then "
        "`hospitium run resume held`."
    )
    assert record(waiting) == before
    (shown,) = show_run(home, RUN)["review"]
    assert (shown["round"], shown["site_id"], shown["waits"]) == (1, FAULTY, True)


def test_a_released_update_counts_as_if_it_had_never_been_held(waiting, home, tmp_path):
    assert decide(home)["counts"] is True
    state = resumed(waiting)
    plain = begin(Home(tmp_path / "other"), plan_with(rounds=3))
    assert same(state, go_on(plain, has_review=False))
    assert left_out(waiting) == {1: {}, 2: {}, 3: {}}


def test_an_excluded_update_is_as_one_that_never_came(waiting, home, tmp_path):
    assert decide(home, "excluded")["counts"] is False
    state = resumed(waiting)
    plain = begin(Home(tmp_path / "other"), plan_with(rounds=3))
    silent = go_on(plain, has_review=False, silent=lambda site, n: (site, n) == (FAULTY, 1))
    assert same(state, silent)
    assert left_out(waiting) == {1: {FAULTY: "excluded"}, 2: {}, 3: {}}


def test_after_the_deadline_it_is_excluded_by_itself(waiting):
    late = time.time() + 86_401
    with pytest.raises(HeldError):
        resumed(waiting, clock=lambda: late - 3600)
    resumed(waiting, clock=lambda: late)
    (row,) = odd(waiting)
    assert (row["decision"], row["decided_by"]) == ("excluded", "nobody (deadline)")
    assert left_out(waiting)[1] == {FAULTY: "excluded"}


def test_while_a_process_works_on_a_waiting_round_nobody_can_decide(waiting, home):
    before = record(waiting)
    with locked(waiting), pytest.raises(RunBusyError):
        decide(home)
    assert record(waiting) == before


# --- below quorum ----------------------------------------------------------------------------


def test_where_a_hold_leaves_too_few_the_round_waits_whatever_the_plan_says(home):
    folder = begin(home, plan_with(rounds=2, quorum=5), fault=LONG)
    late = time.time() + 1e6
    with pytest.raises(HeldError, match="4 usable updates are left, and the plan's quorum is 5"):
        go_on(folder, fault=LONG, clock=lambda: late)
    with pytest.raises(HeldError):
        go_on(folder, fault=LONG, clock=lambda: late)
    decide(home, "excluded")
    with pytest.raises(QuorumError, match=r"4 of 5 sites .* Without one: site-2 \(excluded\)"):
        go_on(folder, fault=LONG)
    assert record(folder)["rounds"][0]["status"] == "open"


def test_who_was_silent_is_asked_again_and_then_looked_at_too(home):
    folder = begin(home, plan_with(rounds=1, quorum=5))
    with pytest.raises(QuorumError):
        go_on(folder, silent=lambda site, number: site == FAULTY)
    with pytest.raises(HeldError):
        go_on(folder, fault=LONG)
    (row,) = odd(folder)
    assert row["site_id"] == FAULTY and row["why"] == ["norm/family"]
    decide(home)
    go_on(folder, fault=LONG)
    assert left_out(folder) == {1: {}}


# --- decisions -------------------------------------------------------------------------------


@pytest.fixture
def closed(home):
    """A run whose first round was closed without the site that is held in it."""
    folder = begin(home, plan_with(rounds=3), fault=LONG)
    go_on(folder, fault=LONG, is_faulty=lambda number: number == 1)
    return folder


@pytest.mark.parametrize("decision", ["released", "excluded"])
def test_a_closed_round_stays_as_it_is_whatever_is_decided(closed, home, decision):
    before = record(closed)
    done = decide(home, decision)
    assert (done["counts"], done["is_open"]) == (False, False)
    after = record(closed)
    for name in ("rounds", "seats", "run", "blobs"):
        assert after[name] == before[name]
    assert odd(closed)[0]["decision"] == decision


def test_a_decision_is_taken_once_by_name_and_reason(closed, home):
    for missing in ({"by": "  "}, {"reason": ""}, {"reason": "x" * 501}, {"by": "a\x00b"}):
        with pytest.raises(UsageError, match="Nothing was changed"):
            decide(home, **missing)
    decide(home, by="Åsa  Øst", reason="new\nscanner")
    (row,) = odd(closed)
    assert (row["decided_by"], row["reason"]) == ("Åsa Øst", "new scanner")
    with pytest.raises(StateConflictError, match="was released by Åsa Øst before"):
        decide(home, "excluded")


@pytest.mark.parametrize("wrong", [{"site_id": "site-1"}, {"round_number": 2}, {"site_id": "x"}])
def test_only_what_is_held_can_be_decided(closed, home, wrong):
    before = record(closed)
    with pytest.raises(UsageError, match=r"is held\. Nothing was changed"):
        decide(home, **wrong)
    assert record(closed) == before


def test_a_release_says_that_this_was_no_fault_and_the_next_round_takes_it(home):
    folder = begin(home, plan_with(rounds=3), fault=LONG)
    ledger = RunLedger(folder)
    ledger.close()
    seen = []

    def is_faulty(number):
        if number == 2 and not seen:  # between two rounds, while the run goes on
            seen.append(decide(home))
        return True

    with locked(folder):
        go_on(folder, fault=LONG, is_faulty=is_faulty)
    assert seen[0]["is_open"] is False
    assert [row["round_number"] for row in odd(folder)] == [1]
    assert {row["round_number"] for row in odd(folder, "flagged")} == {2, 3}


def test_the_log_has_who_was_held_and_what_was_decided_without_a_figure(closed, home):
    decide(home)
    leaves = [leaf for leaf in record(closed)["leaves"] if leaf["kind"] in ("held", "reviewed")]
    held, reviewed = leaves
    assert (held["round_number"], held["site_id"], held["why"]) == (1, FAULTY, ["norm/family"])
    assert reviewed["decision"] == "released" and reviewed["by"] == "Ada Berg"
    assert reviewed["counts"] is False and "figures" not in held


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE seats SET status = 'accepted' WHERE site_id = 'site-2' AND round_number = 1",
        "UPDATE seats SET status = 'held' WHERE site_id = 'site-1' AND round_number = 1",
        "UPDATE reviews SET verdict = 'clear'",
        "UPDATE reviews SET figures = '{}'",
        "DELETE FROM reviews",
        "UPDATE reviews SET decision = 'excluded' WHERE decision = 'released'",
    ],
)
def test_what_was_found_and_decided_stays_whoever_writes_to_the_file(closed, home, sql):
    decide(home)
    before = record(closed)
    connection = sqlite3.connect(closed / "ledger.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="stays"):
        connection.execute(sql)
    connection.close()
    assert record(closed) == before


def test_with_few_sites_the_page_says_that_no_rule_means_much(home):
    folder = begin(home, plan_with(quorum=1), num_sites=3)
    go_on(folder, fault=LONG, is_faulty=lambda number: number == 7)
    found = held_updates.review_of(home, RUN)
    (update,) = found["updates"]
    assert update["why"] == ["length of the change, against its own last rounds"]
    assert [row["round"] for row in update["history"]] == [1, 2, 3, 4, 5, 6]
    assert "no statistical rule means much" in found["note"]


def test_a_report_has_the_figures_of_what_was_held_and_how_many_were_flagged(closed, home):
    decide(home, "excluded")
    ledger = RunLedger(closed)
    part = held_updates.review_part(ledger)
    ledger.close()
    assert (part["mode"], part["num_updates"], part["note"]) == ("hold", 15, "")
    (update,) = part["updates"]
    assert update["decision"] == "excluded" and update["by"] == "Ada Berg"
    norm = update["figures"]["norm"]
    assert norm["value"] - norm["median"] > 7 and norm["distances"]["family"] > 6
