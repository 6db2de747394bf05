"""The tutorial of an own model, as a reader follows it: its snippets, its files, its commands."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pages import DOCS, blocks

pytestmark = pytest.mark.ci

TUTORIAL = DOCS / "tutorial"
BLOCKS = blocks(TUTORIAL / "own-model.md")


def text_of(language, part):
    return next(b.text for b in BLOCKS if b.language == language and part in b.text)


def command(start):
    return next(words for b in BLOCKS for words in b.commands if words[: len(start)] == start)


def hospitium(folder, *words):
    line = [sys.executable, "-m", "hospitium.cli.main", "--home", "home", *words]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=500)


@pytest.fixture
def folder(tmp_path):
    """A reader's folder after steps 2 to 4."""
    shutil.copy(TUTORIAL / "own_model_plugin.py", tmp_path)
    data = text_of("python", "write_phantoms").replace("num_subjects=60", "num_subjects=36")
    (tmp_path / "make_data.py").write_text(data)
    (tmp_path / "sites.toml").write_text(text_of("toml", "[sites."))
    plan = text_of("toml", "own-model").replace("count = 5", "count = 2")  # both to be quick
    (tmp_path / "own.toml").write_text(plan)
    subprocess.run([sys.executable, "make_data.py"], cwd=tmp_path, check=True, timeout=200)
    return tmp_path


def test_the_script_we_begin_with_trains(tmp_path):
    labels = np.arange(64) % 2
    images = (labels[:, None, None] * 40 + np.arange(28 * 28).reshape(28, 28) % 200).astype("u1")
    np.savez(tmp_path / "images.npz", train_images=images, train_labels=labels)
    line = [sys.executable, str(TUTORIAL / "own_model_before.py"), "images.npz"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        line, cwd=tmp_path, env=one_thread, capture_output=True, text=True, timeout=500
    )
    assert found.returncode == 0, found.stderr
    assert "step 40: loss" in found.stdout


def test_the_plan_is_checked_and_run_with_the_plug_in(folder):
    checked = hospitium(folder, *command(["plan", "check"]))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = hospitium(folder, *command(["run", "start"]), "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    report = json.loads(found.stdout)
    assert [plugin["name"] for plugin in report["plugins"]] == ["own_model_plugin.py"]
    assert all(len(row["answered"]) == 3 for row in report["participation"])
    assert (folder / "own-report" / "report.html").is_file()


@pytest.mark.slow
def test_the_own_algorithm_is_run(folder):
    with (folder / "own.toml").open("a") as plan:
        plan.write("\n" + text_of("toml", "half_step"))
    found = hospitium(folder, *command(["run", "start"]), "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(json.loads(found.stdout)["participation"]) == 2
