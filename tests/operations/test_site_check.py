"""Checking data from the command's side: the report, the exit status, what is remembered."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hospitium.cli.main import app
from hospitium.errors import UsageError
from hospitium.operations.site_check import check_data
from hospitium.operations.site_data import add_data_set
from hospitium.plan.reading import parse_plan
from hospitium.state.home import Home
from hospitium.training import TrainingCases
from hospitium.training.trial import try_step

PLAN = """
name = "x"
[task]
classes = ["normal", "pneumonia"]
[imaging.pipeline]
size = [8, 8]
[model]
name = "logistic"
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture
def archive(tmp_path):
    """An NPZ file that nothing is the matter with: noise, but for lungs that are dark."""
    draw = np.random.default_rng(0)
    images = draw.integers(60, 200, (80, 12, 12)).astype(np.uint8)
    images[:, 3:9, 2:5] //= 4
    images[:, 3:9, 7:10] //= 4
    labels = (np.arange(80) // 2 % 2)[:, None]
    parts = {"train": slice(0, 40), "val": slice(40, 60), "test": slice(60, 80)}
    arrays = {f"{s}_images": images[where] for s, where in parts.items()}
    arrays |= {f"{s}_labels": labels[where] for s, where in parts.items()}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def checks_of(found):
    return {check["name"][:3]: check for check in found["checks"]}


def test_good_data_pass_and_the_report_is_written_whole(home, archive, plan):
    found = check_data(home, str(archive), plan=plan, workers=0)
    assert (found["num_cases"], found["num_train"]) == (80, 40)
    assert found["status"] == "PASS", [c for c in found["checks"] if c["status"] != "PASS"]
    assert len(found["checks"]) == 18
    keys = {"name", "status", "found", "expected", "remedy", "who"}
    assert all(set(check) == keys for check in found["checks"])
    assert "one step on" in checks_of(found)["C16"]["found"]
    page = Path(found["page"]).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    written = json.loads(Path(found["json"]).read_text(encoding="utf-8"))
    assert written["checks"] == found["checks"]


def test_a_second_check_says_what_came_and_went(home, archive, plan):
    first = check_data(home, str(archive), plan=plan, workers=0)
    again = check_data(home, str(archive), plan=plan, workers=0)
    arrays = dict(np.load(archive, allow_pickle=False))
    arrays["train_images"], arrays["train_labels"] = (
        arrays["train_images"][1:], arrays["train_labels"][1:],
    )  # fmt: skip
    np.savez(archive, **arrays)
    less = check_data(home, str(archive), plan=plan, workers=0)
    assert "first check" in checks_of(first)["C17"]["found"]
    assert "unchanged" in checks_of(again)["C17"]["found"]
    assert checks_of(less)["C17"]["status"] == "WARN"
    assert "0 cases added or changed, 1 gone" in checks_of(less)["C17"]["found"]


def test_a_file_that_changes_meanwhile_fails_the_check(home, archive, plan):
    def say(event):
        archive.touch()

    found = check_data(home, str(archive), plan=plan, workers=0, say=say)
    assert checks_of(found)["C17"]["status"] == "FAIL"


def test_a_data_set_whose_files_are_gone_is_a_finding(home, archive, plan):
    add_data_set(home, "mine", archive)
    archive.unlink()
    found = check_data(home, "mine", plan=plan, workers=0)
    assert checks_of(found)["C02"]["status"] == "FAIL"
    assert found["data"] == "mine"


@pytest.mark.ci
def test_a_step_that_fails_is_a_finding(home, archive, plan):
    plan.write_text(PLAN.replace('"logistic"', '"small_cnn"\nargs = {widths = [0]}'))
    found = checks_of(check_data(home, str(archive), plan=plan, workers=0))["C16"]
    assert found["status"] == "FAIL"
    assert "training step failed" in found["found"]


def test_what_this_version_cannot_train_is_checked_all_the_same(home, archive, plan):
    plan.write_text(PLAN.replace("[task]", '[task]\nkind = "ordinal"'))
    found = checks_of(check_data(home, str(archive), plan=plan, workers=0))["C16"]
    assert found["status"] == "WARN"
    assert "not built yet" in found["found"]


def test_a_plan_or_data_that_are_not_there_are_a_wrong_call(home, archive, plan):
    for source, path in ((str(archive), plan.with_name("none.toml")), ("nothing", plan)):
        with pytest.raises(UsageError):
            check_data(home, source, plan=path, workers=0)
    with pytest.raises(UsageError, match="never lower"):
        check_data(home, str(archive), plan=plan, workers=0, least=5)


def test_the_trial_step_leaves_no_trace_and_names_its_device():
    plan = parse_plan(PLAN)
    images = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    cases = TrainingCases(images=images, rows=np.arange(4), labels=np.array([0, 1, 0, 1]))
    before = images.copy()
    trial = try_step(plan, cases)
    assert trial.step_s is not None and trial.step_s > 0
    assert (trial.device, trial.problem) == ("cpu", "")
    assert (images == before).all()


def run(home, *words):
    return CliRunner().invoke(app, ["--home", str(home.folder), "site", "data", *words])


def test_the_command_prints_json_and_its_exit_status_says_fail(home, archive, plan):
    words = ("check", str(archive), "--plan", str(plan), "--workers", "0")
    good = run(home, *words, "--json")
    assert good.exit_code == 0
    assert json.loads(good.stdout)["status"] == "PASS"
    arrays = dict(np.load(archive, allow_pickle=False))
    arrays["val_images"][0] = arrays["train_images"][0]
    np.savez(archive, **arrays)
    bad = run(home, *words, "--json")
    assert bad.exit_code == 3
    assert checks_of(json.loads(bad.stdout))["C09"]["status"] == "FAIL"
    told = run(home, *words)
    assert told.exit_code == 3
    assert "FAIL  C09 leakage" in told.stdout
    assert "It stays here" in told.stdout


def test_only_names_status_and_suppressed_counts_are_said_to_leave(home, archive, plan):
    leaving = run(home, "check", str(archive), "--plan", str(plan), "--workers", "0", "--leaving")
    told = json.loads(leaving.stdout)
    assert set(told) == {"plan_digest", "status", "least_count", "checks"}
    assert archive.name not in leaving.stdout
    assert told["checks"][5]["counts"]["subjects"]["cells"] == {"normal": 40, "pneumonia": 40}


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes: a folder inherits its rights")
def test_the_report_lies_where_no_other_account_may_look(home, plan, archive):
    check_data(home, str(archive), plan=plan, workers=0)
    assert (home.folder / "site").stat().st_mode & 0o077 == 0


def test_a_link_to_itself_stops_no_check(home, plan, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + number).save(
            folder / f"{number}.png"
        )
    try:
        (folder / "loop.png").symlink_to("loop.png")
    except OSError:
        pytest.skip("this account may not make links")
    assert check_data(home, str(folder), plan=plan, workers=0)["num_cases"] == 2


def test_a_record_of_the_last_check_that_is_damaged_is_none(home, plan, archive):
    check_data(home, str(archive), plan=plan, workers=0)
    (record,) = home.folder.rglob("check.json")
    record.write_bytes(b"[" * 100_000)
    assert check_data(home, str(archive), plan=plan, workers=0)["num_cases"] == 80
