"""What leaves is what was looked at, byte for byte, and it is recorded first."""

import json

import numpy as np
import pytest

from hospitium.errors import UsageError
from hospitium.operations.plan_auto import auto_plan
from hospitium.operations.site_fingerprint import hand_over, prepare_fingerprint
from hospitium.plan import load_plan
from hospitium.site.departures import Departures
from hospitium.state.home import Home


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def _set(folder, *, seed: int = 1, each: int = 20):
    rng = np.random.default_rng(seed)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (each, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(each).reshape(-1, 1) % 2
    path = folder / f"set{seed}.npz"
    np.savez(path, **arrays)
    return str(path)


def test_what_leaves_is_what_was_shown_and_is_recorded(home, tmp_path):
    source = _set(tmp_path)
    shown = prepare_fingerprint(home, source, hours=12.0)
    record = home.folder / "site" / "log"
    assert not record.exists()  # looking sends nothing
    out = tmp_path / "oslo.json"
    hand_over(home, source, sha256=shown.sha256[:12], out=out)
    assert out.read_bytes() == shown.payload
    (line,) = [row.line.leaf for row in Departures(record).rows()]
    assert (line["kind"], line["sha256"], line["bytes"]) == (
        "fingerprint", shown.sha256, len(shown.payload),
    )  # fmt: skip
    assert set(json.loads(shown.payload)["counts"]) == set(line["fields"])


def test_other_bytes_than_those_approved_do_not_leave(home, tmp_path):
    source = _set(tmp_path)
    with pytest.raises(UsageError, match="no fingerprint was prepared"):
        hand_over(home, source, sha256="0" * 64, out=tmp_path / "out.json")
    prepare_fingerprint(home, source)
    for approved in ("0" * 64, "", "abc"):
        with pytest.raises(UsageError, match="Nothing left the site"):
            hand_over(home, source, sha256=approved, out=tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_every_field_that_leaves_is_shown_and_a_withheld_one_is_not_in_the_bytes(home, tmp_path):
    source = _set(tmp_path)
    whole = prepare_fingerprint(home, source)
    less = prepare_fingerprint(home, source, without=["class", "memory_gib"])
    shown = {field["field"] for field in whole.fields}
    document = json.loads(whole.payload)
    assert set(document["counts"]) | set(document["capacity"][0]) <= shown
    assert b'"class"' in whole.payload and b'"class"' not in less.payload
    assert b"memory_gib" in whole.payload and b'"memory_gib"' not in less.payload
    assert "class" in less.silent


def test_fewer_than_ten_subjects_tell_nothing(home, tmp_path):
    shown = prepare_fingerprint(home, _set(tmp_path, each=3))
    document = json.loads(shown.payload)
    assert (document["num_subjects"], document["counts"]) == (0, {})
    assert shown.num_subjects == 9  # at the site


def test_the_sites_files_become_a_plan_with_reasons(home, tmp_path):
    paths = []
    for seed in (1, 2):
        source = _set(tmp_path, seed=seed)
        shown = prepare_fingerprint(home, source)
        hand_over(home, source, sha256=shown.sha256, out=tmp_path / f"{seed}.json")
        paths.append(tmp_path / f"{seed}.json")
    found = auto_plan(paths, template_name="xray-classification", out=tmp_path / "plan.toml")
    assert (found["num_sites"], found["num_subjects"], found["problems"]) == (2, 120, [])
    plan = load_plan(tmp_path / "plan.toml")
    assert plan.digest == found["digest"]
    assert plan.imaging.pipeline.size == (32, 32)
    assert plan.training.class_weights == (1.0, 1.0)
    assert all(value["reason"] for value in found["values"])
    with pytest.raises(UsageError, match="the file exists"):
        auto_plan(paths, template_name="xray-classification", out=tmp_path / "plan.toml")
    with pytest.raises(UsageError, match="copies of another"):
        auto_plan([paths[0], paths[0]], template_name="xray-classification", out=None)
