"""Runs between machines: the bits of one machine, and what happens when sites come and go."""

import json
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from between_machines import Between, deal, record_of, wait_for
from carried import NAME
from tiny import tiny_plan

from hospitium.errors import QuorumError, RunBusyError, StateConflictError, UsageError
from hospitium.operations.approving import refuse
from hospitium.operations.coordinating import revoke_site
from hospitium.operations.halting import set_wish, wish_of
from hospitium.operations.progress import silent
from hospitium.operations.running import OnThisMachine, run_to_end
from hospitium.operations.runs import is_served, show_run, wish_for
from hospitium.operations.serving import serve
from hospitium.operations.starting import create_run, prepare_site
from hospitium.operations.withdrawing import withdraw
from hospitium.state.home import is_locked


@pytest.fixture
def two(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo"]) as machines:
        yield machines


def on_one_machine(folder, plan, pool, site_ids):
    sites = [
        prepare_site(site_id, cases, folder / "data" / site_id)
        for site_id, cases in zip(site_ids, deal(len(site_ids)), strict=True)
    ]
    create_run(folder, run_id="study", plan=plan, sites=sites, facts={})
    run_to_end(folder, engines=OnThisMachine(pool), say=silent, label="")
    return record_of(folder)


def test_between_machines_it_is_bit_for_bit_what_it_is_on_one(two, tmp_path, pool):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen", "oslo")
    two.start(plan)
    found = two.finished()
    assert (found["status"], found["round"], found["federation"]) == ("finished", 3, "north")
    assert two.record() == on_one_machine(tmp_path / "alone", plan, pool, ["bergen", "oslo"])
    report = json.loads((two.home.run("study") / "report" / "report.json").read_bytes())
    assert report["validation"]["pooled"]["n"] == sum(
        site["n"] for site in report["validation"]["sites"].values()
    )
    assert set(report["costs"]) == {"bergen", "oslo"} == set(report["validation"]["sites"])
    last = report["curve"][-1]
    assert last["round"] == report["chosen_round"]["round"]
    assert report["validation"]["sites_after_round"] is None
    assert set(last["sites"]) == {"bergen", "oslo"}
    assert last["auroc"] == report["validation"]["pooled"]["auroc"]
    cost = report["costs"]["oslo"]
    assert cost["staff_steps"] == {"join": 1, "approve": 1, "total": 2}
    assert cost["bytes_up"] == 3 * report["traffic"]["bytes_up_per_site_per_round"] > 0
    assert cost["peak_memory_bytes"] is None and "peak_memory_bytes" in cost["missing"]
    page = (two.home.run("study") / "report" / "report.html").read_text()
    assert "There is no comparison with sites alone" in page
    assert (two.home.run("study") / "report" / "model.safetensors").is_file()
    assert not (two.home.run("study") / "run.key").exists()


def left_out(found):
    return {
        row["round"]: {item["site_id"]: item["reason"] for item in row["left_out"]}
        for row in found["participation"]
        if row["left_out"]
    }


def reasons(machines):
    return {row["site_id"]: row["reason"] for row in waiting(machines).get("waiting_for", ())}


def waiting(machines):
    return show_run(machines.home, "study")["waiting"]


@pytest.mark.ci
def test_the_canary_is_a_run_of_one_round_before_the_run_and_changes_no_bit(two, tmp_path, pool):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen", "oslo")
    two.start(plan, has_canary=True)
    found = two.finished()
    assert two.record() == on_one_machine(tmp_path / "alone", plan, pool, ["bergen", "oslo"])
    assert found["canary"] == {
        "run_id": "study-canary",
        "finished": True,
        "answered": ["bergen", "oslo"],
        "left_out": [],
    }
    canary = two.record("study-canary")
    assert (len(canary["rounds"]), canary["run"]["plan_digest"]) == (1, plan.digest)
    assert sum("canary: 2 of 2 sites answered" in str(event) for event in two.events) == 1


@pytest.mark.ci
def test_the_canary_is_not_told_of_again_when_a_run_goes_on(two):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen", "oslo")
    pause_before(two, plan, 3, has_canary=True)
    set_wish(two.home.run("study"), "")
    two.finished()
    assert sum("canary: 2 of 2 sites answered" in str(event) for event in two.events) == 1


@pytest.mark.ci
def test_a_site_that_fails_the_canary_is_named_and_the_run_goes_on(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo", "turku"]) as three:
        three.up()
        plan = three.offer()
        three.approve(plan, "bergen", "oslo", "turku")
        (three.cases_of("turku", plan) / "cases.json").unlink()
        three.attend("bergen", "oslo", "turku")
        three.start(plan, has_canary=True)
        found = three.finished()
        assert [row["site_id"] for row in found["canary"]["left_out"]] == ["turku"]
        assert any("canary: 2 of 3 sites answered; not: turku" in str(e) for e in three.events)
        assert {site_id for row in left_out(found).values() for site_id in row} == {"turku"}


def test_nothing_begins_below_quorum_and_who_has_not_approved_is_named(two):
    two.up()
    plan = two.offer()
    with pytest.raises(QuorumError, match=r"0 of 2.*2 are needed.*bergen.*oslo.*has not approved"):
        two.start(plan)
    two.approve(plan, "oslo")
    with pytest.raises(QuorumError, match=r"1 of 2.*Not yet: bergen \(has not approved the plan\)"):
        two.start(plan)
    refuse_plan(two, "bergen", plan)
    with pytest.raises(QuorumError, match=r"bergen \(refused the plan \(data\)\)"):
        two.start(plan)
    assert two.home.runs() == []


@pytest.mark.ci
def test_the_name_of_a_run_is_never_used_again_even_when_its_folder_is_gone(two):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.down()
    shutil.rmtree(two.start(plan))
    with pytest.raises(StateConflictError, match="begun here before"):
        two.start(plan)
    with pytest.raises(StateConflictError, match="begun here before"):
        two.start(plan, run_id="study-canary")
    assert two.start(plan, run_id="study-2").is_dir()


@pytest.mark.ci
def test_below_quorum_in_the_canary_the_run_is_named_not_the_canary(two):
    two.up()
    plan = two.offer(short(tiny_plan(batching="equal"), deadline_s=1.0))
    two.approve(plan, "bergen", "oslo")
    two.start(plan, has_canary=True)
    said = {}
    wait_for(lambda: said.update(waiting(two)) or said.get("error"))
    error = said["error"]
    assert error.startswith("The canary of study: Round 1")
    assert "`hospitium run resume study`" in error


def test_a_plan_that_was_not_offered_cannot_be_run(two):
    with pytest.raises(UsageError, match="was not offered"):
        two.start(tiny_plan(batching="equal"))


@pytest.mark.ci
def test_below_quorum_a_run_waits_for_named_sites_and_never_makes_a_model_of_one(two):
    two.up()
    plan = two.offer(short(tiny_plan(batching="equal"), deadline_s=1.0))
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen")
    two.start(plan)
    wait_for(lambda: reasons(two) == {"oslo": "deadline"})
    wait_for(lambda: show_run(two.home, "study")["status"] == "waiting")
    assert two.record()["rounds"][0]["status"] == "open"
    two.attend("oslo")
    found = two.finished()
    assert {row["round"]: row["answered"] for row in found["participation"]} == {
        number: ["bergen", "oslo"] for number in (1, 2, 3)
    }


@pytest.mark.ci
def test_a_site_that_approves_late_takes_part_from_the_next_round_on(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo", "turku"]) as three:
        three.up()
        plan = three.offer(tiny_plan(rounds=5, batching="equal"))
        three.approve(plan, "bergen", "oslo")
        three.attend("bergen", "oslo")
        pause_before(three, plan, 3)
        three.approve(plan, "turku")
        three.attend("turku")
        set_wish(three.home.run("study"), "")
        found = three.finished()
        assert [len(row["asked"]) for row in found["participation"]] == [2, 2, 3, 3, 3]
        (late,) = found["late_seats"]
        assert (late["site_id"], late["from_round"]) == ("turku", 3)
        assert left_out(found) == {}


@pytest.mark.ci
def test_a_run_that_was_seen_half_begun_is_taken_up_as_soon_as_it_is_whole(two):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen", "oslo")
    half = two.home.new_run("study") / "ledger.sqlite"
    half.touch()
    time.sleep(1.5)
    shutil.rmtree(half.parent)
    two.start(plan)
    assert two.finished(timeout_s=20)["status"] == "finished"


@pytest.mark.ci
def test_a_site_that_withdraws_is_left_out_with_its_reason_from_then_on(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo", "turku"]) as three:
        three.up()
        plan = three.offer(tiny_plan(rounds=4, batching="equal"))
        three.approve(plan, "bergen", "oslo", "turku")
        three.attend("bergen", "oslo", "turku")
        pause_before(three, plan, 3)
        withdraw(
            three.federation.site("turku"), NAME, plan.digest, approver="Kari Nordmann",
            now=datetime.now(UTC),
        )  # fmt: skip
        three.exchange("turku")
        set_wish(three.home.run("study"), "")
        gone = {"turku": "withdrew from the plan"}
        assert left_out(three.finished()) == {3: gone, 4: gone}


@pytest.mark.ci
def test_what_a_site_had_sent_before_it_withdrew_is_not_in_the_open_round(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo", "turku"]) as three:
        three.up()
        plan = three.offer(tiny_plan(rounds=2, batching="equal"))
        three.approve(plan, "bergen", "oslo", "turku")
        three.attend("bergen", "turku")
        folder = three.start(plan)
        wait_for(lambda: accepted(folder) == ["bergen", "turku"])
        withdraw(
            three.federation.site("turku"), NAME, plan.digest, approver="Kari Nordmann",
            now=datetime.now(UTC),
        )  # fmt: skip
        three.exchange("turku")
        three.attend("oslo")
        found = three.finished()
        gone = {"turku": "withdrew from the plan"}
        assert left_out(found) == {1: gone, 2: gone}


@pytest.mark.ci
def test_under_a_new_member_list_the_run_waits_until_sites_approve_again(two):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen", "oslo")
    pause_before(two, plan, 2)
    two.federation.admit("turku")
    set_wish(two.home.run("study"), "")
    again = "has to approve again under member list 4"
    wait_for(lambda: reasons(two) == {"bergen": again, "oslo": again})
    two.approve(plan, "bergen", "oslo")
    found = two.finished()
    assert left_out(found) == {} and found["round"] == 3
    assert [row["attempts"] for row in found["participation"]] == [1, 1, 1]


@pytest.mark.ci
def test_a_revoked_site_is_left_out_at_once_and_the_others_approve_again(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo", "turku"]) as three:
        three.up()
        plan = three.offer()
        three.approve(plan, "bergen", "oslo", "turku")
        three.attend("bergen", "oslo", "turku")
        pause_before(three, plan, 2)
        revoke_site(three.home, NAME, "turku", now=datetime.now(UTC))
        set_wish(three.home.run("study"), "")
        wait_for(lambda: reasons(three).get("turku") == "revoked: no member any more")
        three.approve(plan, "bergen", "oslo")
        gone = {"turku": "revoked: no member any more"}
        assert left_out(three.finished()) == {2: gone, 3: gone}


@pytest.mark.ci
def test_a_run_that_is_stopped_ends_at_once_and_goes_on_to_the_same_bits(two, tmp_path, pool):
    two.up()
    plan = two.offer()
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen")
    folder = two.start(plan)
    wait_for(lambda: accepted(folder) == ["bergen"])
    wish_for(two.home, "study", "stopped")
    wait_for(lambda: not is_locked(folder))
    assert show_run(two.home, "study")["status"] == "stopped"
    assert any("study: stopped, as asked; go on by" in str(event) for event in two.events)
    two.attend("oslo")
    two.down()
    wish_for(two.home, "study", "")
    assert show_run(two.home, "study")["status"] == "not served"
    two.up()
    two.finished()
    assert two.record() == on_one_machine(tmp_path / "alone", plan, pool, ["bergen", "oslo"])
    with pytest.raises(StateConflictError, match="is finished"):
        wish_for(two.home, "study", "paused")


def test_one_home_is_served_once(two):
    two.up()
    assert is_served(two.home)
    with pytest.raises(RunBusyError, match="another `hospitium coordinator up`"):
        serve(two.home, port=0, say=silent, stop=threading.Event())
    two.down()
    assert not is_served(two.home)


def pause_before(machines, plan, round_number, **more):
    """Let a run wait before a round, and wait until it does."""

    def tell(event):
        if event["kind"] == "round" and event["round"] == round_number - 1:
            set_wish(machines.home.run("study"), "paused")

    machines.listeners.append(tell)
    folder = machines.start(plan, **more)
    wait_for(lambda: wish_of(folder) == "paused" and not is_locked(folder))


def accepted(folder):
    return [seat["site_id"] for seat in record_of(folder)["seats"] if seat["status"] == "accepted"]


def refuse_plan(machines, site_id, plan):
    machines.exchange(site_id)
    refuse(
        machines.federation.site(site_id), NAME, plan.digest, approver="Kari Nordmann",
        reason="data", now=datetime.now(UTC),
    )  # fmt: skip
    machines.exchange(site_id)


def short(plan, *, deadline_s):
    return replace(plan, rounds=replace(plan.rounds, deadline_s=deadline_s))
