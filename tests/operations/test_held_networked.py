"""Between machines a round that waits for a decision goes on by itself once it is taken."""

from dataclasses import replace

import pytest
from between_machines import Between, wait_for
from tiny import tiny_plan

from hospitium.evaluation.review_rules import Judgement
from hospitium.operations import reviewing
from hospitium.operations.attempts import state_of
from hospitium.operations.held_updates import decide, review_of

pytestmark = pytest.mark.ci


@pytest.fixture
def two(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=["bergen", "oslo"]) as machines:
        yield machines


def test_a_run_waits_for_a_person_and_goes_on_after_the_decision(two, monkeypatch):
    seen = []

    def judge(site_id, **known):
        seen.append(site_id)
        is_first = site_id == "oslo" and seen.count("oslo") == 1
        why = ("cosine/own",) if is_first else ()
        return Judgement(verdict="held" if is_first else "clear", scores={}, why=why)

    monkeypatch.setattr(reviewing, "judge", judge)
    two.up()
    plan = tiny_plan(batching="equal")
    plan = two.offer(replace(plan, review=replace(plan.review, on_held="wait")))
    two.approve(plan, "bergen", "oslo")
    two.attend("bergen", "oslo")
    folder = two.start(plan)
    wait_for(lambda: state_of(folder).get("state") == "waiting")
    said = state_of(folder)
    assert said["code"] == "E206" and "the updates of oslo are held" in said["error"]
    (update,) = review_of(two.home, "study")["updates"]
    assert (update["round"], update["site_id"], update["waits"]) == (1, "oslo", True)
    done = decide(
        two.home,
        "study",
        site_id="oslo",
        round_number=1,
        decision="released",
        by="Kari Nordmann",
        reason="new scanner",
    )
    assert done["counts"]
    found = two.finished()
    assert [row["answered"] for row in found["participation"]] == [["bergen", "oslo"]] * 3
    assert found["review"][0]["decision"] == "released"
