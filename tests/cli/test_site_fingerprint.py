import json

import numpy as np
import pytest


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(4)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (20, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(20).reshape(-1, 1) % 2
    np.savez(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def test_a_dry_run_prints_exactly_the_bytes_that_an_approval_writes(call, source, tmp_path):
    dry = call("site", "data", "fingerprint", source, "--dry-run")
    assert dry.status == 0 and dry.out.startswith('{"capacity":') and not dry.out.endswith("\n")
    assert "class: the label that most of the subject's images have" in dry.err
    approved = dry.err.split("SHA-256 ")[1].split()[0]
    assert not list(tmp_path.glob("*.json"))
    out = tmp_path / "oslo.json"
    said = call("site", "data", "fingerprint", source, "--approve", approved, "--out", out)
    assert said.status == 0 and "was written" in said.out
    assert out.read_bytes() == dry.out.encode()
    plan = call("plan", "auto", out)
    assert plan.status == 0 and "imaging.pipeline.size = [32, 32]" in plan.out
    assert "60 subjects at 1 site." in plan.out and "Nothing was written" in plan.out


def test_nothing_leaves_without_a_file_to_write_or_against_the_rule(call, source, tmp_path):
    shown = call("site", "data", "fingerprint", source)
    assert shown.status == 0 and "Nothing left the site." in shown.out
    assert call("site", "data", "fingerprint", source, "--least", 5).status == 2
    assert call("site", "data", "fingerprint", source, "--approve", "abcdef0123").status == 2
    found = call("site", "data", "fingerprint", source, "--json").json
    assert json.loads(found["payload"])["num_subjects"] == 60
    assert not (tmp_path / "home" / "site" / "log").exists()
