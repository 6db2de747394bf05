"""The commands of a run between machines: what they say, and what they refuse."""

import json

import pytest
from tiny import tiny_plan

from hospitium.plan.writing import to_toml


@pytest.fixture
def centre(call, tmp_path):
    def run(*words, status=0):
        found = call("--home", tmp_path / "centre", *words)
        assert found.status == status, found.out + found.err
        return found

    run("coordinator", "init", "north", "--address", "https://hub.example.org")
    return run


def test_a_plan_without_its_numbers_is_refused_and_with_them_offered(centre, tmp_path):
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan()))
    refused = centre("coordinator", "offer", "plan.toml", status=3)
    assert "--cases N" in refused.err and "training.sampling_rate" in refused.err
    found = centre("coordinator", "offer", "plan.toml", "--cases", 300, "--json", status=3)
    assert found.json["ok"] is False  # no site is a member yet: nobody's batches can be shared out
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan(batching="equal")))
    offered = centre("coordinator", "offer", "plan.toml")
    assert "hospitium run start" in offered.out and "site inbox" in offered.out


def test_a_run_says_where_its_sites_are_and_who_has_not_approved(centre, tmp_path):
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan(batching="equal")))
    both = centre("run", "start", "plan.toml", status=2)
    assert "--sites" in both.err and "--federation" in both.err
    words = ("run", "start", "plan.toml", "--federation", "north")
    assert "was not offered" in centre(*words, status=2).err
    centre("coordinator", "offer", "plan.toml")
    refused = json.loads(centre(*words, "--json", status=4).out)
    assert refused["code"] == "E201" and "0 of 0 members have approved" in refused["error"]


def test_a_run_that_is_not_there_cannot_be_paused(centre):
    assert "There is no run" in centre("run", "pause", "study", status=2).err
    assert "There is no run" in centre("run", "stop", "study", status=2).err


def test_a_home_without_a_federation_serves_nobody(call, tmp_path):
    found = call("--home", tmp_path / "empty", "coordinator", "up")
    assert found.status == 2 and "coordinates no federation yet" in found.err
