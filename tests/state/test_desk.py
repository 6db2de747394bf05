"""What the coordinator's desk keeps: plans, what sites said, who counts, and heartbeats."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "engines" / "hub"))

from desks import PLAN, START, Centre, key_of

from hospitium.errors import TrustError
from hospitium.state import desk as desks
from hospitium.state.desk import Desk
from hospitium.wire.approvals import sign_plan
from hospitium.wire.statement import time_text


@pytest.fixture
def centre(tmp_path):
    centre = Centre(folder=tmp_path)
    centre.admit("oslo", "turin")
    centre.offer()
    return centre


def reason_of(call, *args, **options):
    with pytest.raises(TrustError) as error:
        call(*args, **options)
    return error.value.reason


def test_a_plan_is_offered_once_and_only_if_the_coordinator_signed_it(centre):
    envelope = sign_plan(PLAN.canonical, centre.coordinator)
    centre.desk.offer(PLAN.digest, envelope)
    assert centre.desk.plans() == [envelope]
    assert centre.desk.plan_digests() == [PLAN.digest]
    assert reason_of(centre.desk.offer, "0" * 64, envelope) == "plan"
    foreign = sign_plan(PLAN.canonical, key_of("somebody"))
    assert reason_of(centre.desk.offer, PLAN.digest, foreign) == "signature"
    assert Desk(centre.desk.folder).plans() == [envelope]


def test_plans_are_listed_in_the_order_in_which_they_were_offered(centre):
    digests = [PLAN.digest]
    for name in ("z", "a", "m"):
        plan = replace(PLAN, name=name)
        centre.desk.offer(plan.digest, sign_plan(plan.canonical, centre.coordinator))
        digests.append(plan.digest)
    assert centre.desk.plan_digests() == digests


def test_what_was_said_is_kept_once_with_one_number(centre):
    first, second = centre.approval("oslo"), centre.refusal("oslo")
    assert centre.desk.take_said("oslo", first)
    assert centre.desk.take_said("oslo", second)
    assert not centre.desk.take_said("oslo", first)
    assert [centre.desk.number_said("oslo", said) for said in (first, second)] == [1, 2]
    again = Desk(centre.desk.folder)
    assert [type(said).__name__ for said in again.said(PLAN.digest)] == ["Approval", "Refusal"]


def test_of_the_same_statement_in_a_race_one_is_new(centre):
    said = [centre.approval("oslo", num_cases=number % 3 + 1) for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: centre.desk.take_said("oslo", one), said))
    assert sum(found) == 3 == len(centre.desk.said(PLAN.digest))


def test_a_statement_of_another_or_about_nothing_is_refused(centre):
    approval = centre.approval("oslo")
    assert reason_of(centre.desk.take_said, "turin", approval) == "signature"
    assert reason_of(centre.desk.take_said, "paris", approval) == "members"
    posing = centre.approval("oslo", key=key_of("turin signing"))
    assert reason_of(centre.desk.take_said, "turin", posing) == "identity"
    elsewhere = centre.approval("oslo", federation="south")
    assert reason_of(centre.desk.take_said, "oslo", elsewhere) == "federation"
    unknown = centre.approval("oslo", plan_digest="0" * 64)
    assert reason_of(centre.desk.take_said, "oslo", unknown) == "plan"
    assert reason_of(centre.desk.take_said, "oslo", b"{}") == "canonical"
    assert centre.desk.said(PLAN.digest) == []


def test_a_site_cannot_fill_the_disk_but_its_withdrawal_counts(centre, monkeypatch):
    monkeypatch.setattr(desks, "MAX_SAID", 3)
    for number in range(3):
        centre.desk.take_said("oslo", centre.approval("oslo", num_cases=number + 1))
    assert reason_of(centre.desk.take_said, "oslo", centre.refusal("oslo")) == "size"
    assert set(centre.desk.standing(PLAN.digest)) == {"oslo"}
    assert reason_of(centre.desk.take_said, "oslo", centre.withdrawal("oslo")) == "size"
    assert centre.desk.standing(PLAN.digest) == {}
    assert centre.desk.take_said("turin", centre.approval("turin"))


@given(acts=st.lists(st.sampled_from(["approve", "refuse", "withdraw"]), max_size=6))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_last_word_counts_and_a_withdrawal_is_for_good(tmp_path, acts):
    centre = Centre(folder=tmp_path / uuid4().hex)
    centre.admit("oslo", "turin")
    centre.offer()
    for act in acts:
        centre.now += timedelta(seconds=1)
        say = {"approve": centre.approval, "refuse": centre.refusal, "withdraw": centre.withdrawal}
        centre.desk.take_said("oslo", say[act]("oslo"))
    counts = bool(acts) and "withdraw" not in acts and acts[-1] == "approve"
    assert set(centre.desk.standing(PLAN.digest)) == ({"oslo"} if counts else set())
    assert len(centre.desk.said(PLAN.digest)) == len(acts)


def test_an_approval_counts_under_the_list_in_force_and_until_it_expires(centre):
    centre.desk.take_said("oslo", centre.approval("oslo"))
    assert centre.desk.standing(PLAN.digest)["oslo"].num_cases == 100
    centre.now += timedelta(days=31)
    assert centre.desk.standing(PLAN.digest) == {}
    centre.now = START
    centre.admit("paris")
    assert centre.desk.standing(PLAN.digest) == {}
    centre.desk.take_said("oslo", centre.approval("oslo"))
    assert set(centre.desk.standing(PLAN.digest)) == {"oslo"}


def test_a_site_that_is_cut_off_or_revoked_does_not_count(centre):
    for site_id in ("oslo", "turin"):
        centre.desk.take_said(site_id, centre.approval(site_id))
    centre.desk.cut_off("oslo", now=centre.now)
    assert centre.desk.all_cut_off() == {"oslo"}
    assert set(centre.desk.standing(PLAN.digest)) == {"turin"}
    centre.desk.let_in_again("oslo")
    assert set(centre.desk.standing(PLAN.digest)) == {"oslo", "turin"}
    centre.revoke("oslo")
    centre.desk.take_said("turin", centre.approval("turin"))
    assert set(centre.desk.standing(PLAN.digest)) == {"turin"}


def test_a_withdrawal_outlives_the_key_that_signed_it(centre):
    centre.desk.take_said("oslo", centre.withdrawal("oslo"))
    centre.rotate("oslo", "signing", key_of("oslo's next"))
    assert centre.desk.said(PLAN.digest) == []
    centre.desk.take_said("oslo", centre.approval("oslo", key=key_of("oslo's next")))
    assert centre.desk.last_word("oslo", PLAN.digest) == "withdrawn"
    assert centre.desk.standing(PLAN.digest) == {}


def test_another_process_list_is_seen_and_a_list_is_verified_once(centre, monkeypatch):
    reader = Desk(centre.desk.folder)
    before = reader.members()
    opened = []
    real = reader.chain.envelopes
    monkeypatch.setattr(
        reader.chain, "envelopes", lambda after=0: opened.append(after) or real(after=after)
    )
    assert reader.members() is before and opened == [before.members_epoch]
    centre.admit("paris")
    assert reader.members().members_epoch == before.members_epoch + 1


def test_the_last_heartbeat_is_kept_with_its_time(centre):
    centre.desk.heard("oslo", {"state": "waiting"})
    centre.now += timedelta(seconds=30)
    centre.desk.heard("oslo", {"state": "training"})
    found = Desk(centre.desk.folder).beats()
    assert found == {"oslo": {"state": "training", "heard": time_text(centre.now)}}


def test_heartbeats_that_come_at_once_do_no_harm(centre):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: centre.desk.heard("oslo", {"round_number": n}), range(40)))
    assert centre.desk.beats()["oslo"]["round_number"] in range(40)
