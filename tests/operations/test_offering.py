"""A plan is complete before it is offered: nothing is filled in after a site has approved it."""

from dataclasses import replace

import pytest
from carried import NAME, Federation
from tiny import tiny_plan

from hospitium.errors import PlanError
from hospitium.imaging.fingerprint.data import fingerprint_of
from hospitium.imaging.fingerprint.release import suppress, to_bytes
from hospitium.operations.desks import existing
from hospitium.operations.offering import offer_plan, unresolved
from hospitium.plan import load_plan
from hospitium.plan.writing import to_toml
from hospitium.training.trainer import balanced_weights, sampling_rate
from hospitium.wire.approvals import open_plan


@pytest.fixture
def north(tmp_path):
    north = Federation(folder=tmp_path).begin()
    for site_id in ("bergen", "oslo"):
        north.admit(site_id)
    return north


def write(north, plan):
    path = north.folder / "plan.toml"
    path.write_text(to_toml(plan))
    return path


def offered(north):
    desk = existing(north.coordinator, NAME)
    return [open_plan(envelope, desk.members()) for envelope in desk.plans()]


def test_a_complete_plan_is_offered_as_it_is_and_the_same_one_twice_is_one(north):
    plan = tiny_plan(batching="equal")
    for _ in range(2):
        found = offer_plan(north.coordinator, NAME, write(north, plan))
    assert (found["plan_digest"], found["resolved"], found["path"]) == (plan.digest, "", "")
    assert offered(north) == [plan.canonical]


def test_a_rate_that_is_missing_is_filled_in_and_the_plan_written_beside(north):
    plan = tiny_plan()
    found = offer_plan(north.coordinator, NAME, write(north, plan), num_cases=400)
    resolved = load_plan(north.folder / found["resolved"])
    assert resolved.digest == found["plan_digest"] != plan.digest
    assert resolved.training.sampling_rate == sampling_rate(16, num_sites=2, num_cases=400) == 0.08
    assert unresolved(resolved) == plan
    assert offered(north) == [resolved.canonical]


def test_without_numbers_both_ways_out_are_said_and_nothing_is_offered(north):
    plan = tiny_plan(class_weighting="balanced")
    with pytest.raises(PlanError) as refused:
        offer_plan(north.coordinator, NAME, write(north, plan))
    assert len(refused.value.problems) == 2
    for words in ("--cases N", "--fingerprint FILE", "training.class_weights", "batching"):
        assert words in str(refused.value)
    assert offered(north) == []


def test_fingerprints_tell_the_weights_of_classes_and_stand_for_the_cases(north):
    paths = []
    for name, sick in (("bergen", 20), ("oslo", 40)):
        votes = [{"class": "pneumonia"}] * sick + [{"class": "normal"}] * (100 - sick)
        path = north.folder / f"{name}.fingerprint"
        path.write_bytes(to_bytes(suppress(fingerprint_of(votes))))
        paths.append(path)
    plan = tiny_plan(class_weighting="balanced")
    found = offer_plan(north.coordinator, NAME, write(north, plan), fingerprints=paths)
    training = load_plan(north.folder / found["resolved"]).training
    assert training.class_weights == balanced_weights({"normal": 140, "pneumonia": 60})
    assert training.sampling_rate == sampling_rate(16, num_sites=2, num_cases=200)


def test_a_plug_in_is_never_offered(north):
    plan = replace(tiny_plan(batching="equal"), plugin_sha256="0" * 64)
    with pytest.raises(PlanError, match="never between machines"):
        offer_plan(north.coordinator, NAME, write(north, plan))
