from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_cases, write_npz

from hospitium.errors import DataError, PartitionError, PlanError, StorageError, UsageError
from hospitium.operations.demo import DemoOptions, demo_plan, prepare_demo
from hospitium.operations.progress import silent
from hospitium.operations.running import open_ledger
from hospitium.state.home import Home

OPTIONS = DemoOptions(model="logistic", rounds=3, sites=3, partition="iid")


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def data(tmp_path):
    return write_npz(tmp_path / "tiny.npz")


def test_a_demo_begins_a_run_of_the_given_data_and_says_who_holds_what(home, data):
    said = []
    folder = prepare_demo(home, replace(OPTIONS, data=data), say=said.append)
    rows = next(event["sites"] for event in said if event["kind"] == "partition")
    ledger = open_ledger(folder)
    assert [seat.num_cases for seat in ledger.seats] == [sum(row["train"].values()) for row in rows]
    assert sum(seat.num_cases for seat in ledger.seats) == 96
    assert ledger.plan.rounds.count == 3 and ledger.plan.rounds.quorum == 2
    assert ledger.facts["partition"]["name"] == "iid"
    ledger.close()


def test_two_demos_of_the_same_seed_begin_the_same_run(home, data):
    def begun(seed):
        folder = prepare_demo(home, replace(OPTIONS, data=data, seed=seed), say=silent)
        ledger = open_ledger(folder)
        found = ledger.plan.digest, ledger.seats, ledger.facts["partition"]
        ledger.close()
        return found

    assert begun(3) == begun(3)
    assert begun(3) != begun(4)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"seed": 1 << 60}, PlanError, "seed"),
        ({"rounds": 1_000_000}, PlanError, "rounds.count"),
        ({"model": "resnet"}, PlanError, "small_cnn"),
        ({"sites": 200}, PartitionError, "200 sites"),
        ({"partition": "column:site"}, UsageError, "--sites 3"),
        ({"partition": "column:site", "sites": None}, PartitionError, "no such column"),
        ({"partition": "dirichlet:0"}, UsageError, "dirichlet:A"),
        ({"label": "finding"}, DataError, "no columns"),
    ],
)
def test_a_demo_that_cannot_begin_says_why_and_leaves_nothing(home, data, changes, error, said):
    with pytest.raises(error, match=said):
        prepare_demo(home, replace(OPTIONS, data=data, **changes), say=silent)
    assert list(home.folder.rglob("*.bin")) == []
    assert home.runs() == []


def test_a_place_for_the_report_that_cannot_be_written_is_said_before_anything_is_read(
    home, data, tmp_path
):
    (tmp_path / "file").touch()
    said = []
    with pytest.raises(StorageError, match="cannot be written"):
        prepare_demo(
            home, replace(OPTIONS, data=data, out=tmp_path / "file" / "out"), say=said.append
        )
    assert said == []


def test_phantoms_are_made_where_no_data_are_given(home, monkeypatch):
    monkeypatch.setattr("hospitium.operations.demo.NUM_PHANTOMS", 96)
    monkeypatch.setattr("hospitium.operations.demo.PHANTOM_SIZE", 16)
    folder = prepare_demo(home, DemoOptions(model="logistic", rounds=1), say=silent)
    ledger = open_ledger(folder)
    assert len(ledger.seats) == 4
    assert list((folder / "phantoms").rglob("*.dcm"))
    ledger.close()


def test_the_plan_of_a_demo_has_the_shape_of_its_data():
    cases = tiny_cases()
    cases = replace(cases, images=np.repeat(cases.images, 3, axis=1), classes=("a", "b", "c"))
    plan = demo_plan(cases, DemoOptions(model="resnet18", seed=9), num_sites=5)
    assert (plan.imaging.pipeline.size, plan.imaging.pipeline.channels) == ((8, 8), 3)
    assert plan.task.classes == ("a", "b", "c")
    assert (plan.seed, plan.model.init_seed, plan.rounds.quorum) == (9, 9, 4)
