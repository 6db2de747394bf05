"""A site that dies, stands still, pauses or withdraws while a run goes on."""

import json
from datetime import UTC, datetime

import pytest
from figures import figure
from machines import answered, closed, ended, plan_of, rounds, seats, took_s, wait_for
from undisturbed import require_same_bits

pytestmark = pytest.mark.ci

SLACK_S = 10.0
ROUNDS, MORE_ROUNDS = 30, 60
"""So many that a quick machine is not done before something is done to it; and so many commands."""


def newest(run):
    return rounds(run)[-1]["round_number"] if rounds(run) else 0


def caught_in(field, run, site_id):
    """Hold a site in the middle of its training, all others done; return the round."""
    field.hold_worker(site_id)
    others = set(field.site_ids) - {site_id}

    def is_caught():
        found = seats(run, newest(run))
        return found.get(site_id) == "asked" and all(found[name] == "accepted" for name in others)

    wait_for(is_caught)
    return newest(run)


def test_a_site_killed_in_mid_round_costs_its_deadline_and_is_taken_back(field, tmp_path):
    deadline_s = 12.0  # a busy machine must have killed the site by then
    plan = field.offer(plan_of(rounds=ROUNDS, deadline_s=deadline_s, name="killed"))
    run = field.start(plan, "killed")
    wait_for(lambda: closed(run) >= 2)
    number = caught_in(field, run, "oslo")
    field.kill("oslo")
    killed = datetime.now(UTC)
    wait_for(lambda: closed(run) >= number)
    assert seats(run, number)["oslo"] == "left_out: deadline"
    assert killed < ended(run, number), "the machine was too busy: the deadline came first"
    assert took_s(run, number) <= deadline_s + SLACK_S
    figure(
        "site_killed",
        f"the round took {took_s(run, number):.1f} s with a deadline of {deadline_s:.0f} s",
    )
    field.attend("oslo")
    field.finished(run)
    assert "oslo" in answered(run)[ROUNDS]
    require_same_bits(field, run, tmp_path / "again")


def test_below_quorum_no_aggregate_is_formed_and_the_run_goes_on_when_sites_return(field, tmp_path):
    plan = field.offer(plan_of(rounds=ROUNDS, deadline_s=3, name="quorum"))
    run = field.start(plan, "quorum")
    wait_for(lambda: closed(run) >= 2)
    field.kill("bergen")
    field.kill("kiel")
    state = run / "state.json"
    wait_for(lambda: state.is_file() and json.loads(state.read_bytes())["state"] == "waiting")
    before = closed(run)
    said = json.loads(state.read_bytes())
    assert {row["site_id"] for row in said["waiting_for"]} == {"bergen", "kiel"}
    wait_for(lambda: rounds(run)[-1]["attempt"] >= 2)
    assert closed(run) == before and before < ROUNDS
    field.attend("bergen", "kiel")
    field.finished(run)
    attempts = rounds(run)[before]["attempt"]
    assert all(len(present) >= 2 for present in answered(run).values())
    require_same_bits(field, run, tmp_path / "again")
    figure("quorum", f"0 of {ROUNDS} rounds; it waited through {attempts - 1} attempts and went on")


@pytest.mark.slow
def test_a_site_pauses_comes_back_and_withdraws_in_mid_run(field, tmp_path):
    plan = field.offer(plan_of(rounds=MORE_ROUNDS, deadline_s=3, name="stops"))
    run = field.start(plan, "stops")
    wait_for(lambda: closed(run) >= 2)
    field.say("oslo", "site", "pause")
    wait_for(lambda: "oslo" not in answered(run).get(closed(run), {"oslo"}))
    field.say("oslo", "site", "resume")
    came_back = closed(run)
    wait_for(lambda: any("oslo" in answered(run)[n] for n in range(came_back + 1, closed(run) + 1)))
    field.say("oslo", "site", "withdraw", plan.digest[:12], "--as", "Kari Nordmann")
    field.finished(run)
    last = seats(run, newest(run))
    assert newest(run) == MORE_ROUNDS and last["oslo"] == "left_out: withdrew from the plan"
    require_same_bits(field, run, tmp_path / "again")


def test_the_canary_names_the_site_that_failed_before_the_long_run_begins(field, tmp_path):
    plan = field.offer(plan_of(rounds=3, deadline_s=3, name="canary"))
    field.stop("oslo")
    run = field.start(plan, "long", has_canary=True)
    wait_for(lambda: "canary: 2 of 3 sites answered" in field.centre.err)
    assert "not: oslo (deadline); the run begins" in field.centre.err
    assert seats(run.with_name("long-canary"), 1)["oslo"] == "left_out: deadline"
    field.go_on("oslo")
    field.finished(run)
    require_same_bits(field, run, tmp_path / "again")
