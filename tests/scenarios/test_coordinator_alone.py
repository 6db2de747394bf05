"""An installation for the coordinator alone: no torch, no imaging, and whole runs all the same."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from between_machines import Between, wait_for
from carried import NAME
from tiny import environment, tiny_plan
from without_site import ABSENT

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.operations.first_params import write_first_params
from hospitium.plan.schema import ModelSection
from hospitium.plan.writing import to_toml

SCRIPT = Path(__file__).with_name("without_site.py")
SMALL_CNN = ModelSection(name="small_cnn", args={"widths": (8,)})


@pytest.fixture
def pool():
    pool = WorkerPool(answer_request, num_workers=2)
    yield pool
    pool.close()


def command(*words):
    return [sys.executable, str(SCRIPT), *map(str, words)]


def told(home, *words):
    """Run a command to its end; return its exit status and what it printed as JSON."""
    done = subprocess.run(
        command(*words, "--json"), env=environment(home), capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout or done.stderr)


@pytest.mark.ci
def test_it_begins_a_federation_and_invites_without_what_only_sites_need(tmp_path):
    home = tmp_path / "home"
    status, begun = told(home, "coordinator", "init", NAME, "--address", "https://hub.example.org")
    assert (status, begun["members_epoch"]) == (0, 1)
    out = tmp_path / "oslo.invite"
    assert told(home, "coordinator", "invite", "oslo", "--out", out)[0] == 0
    assert told(home, "run", "list") == (0, [])


def test_nothing_that_the_coordinator_does_imports_what_only_sites_need(tmp_path):
    words = (
        "import sys; sys.path.insert(0, sys.argv[1]); import without_site as w;"
        "sys.meta_path[:] = [w.Without(finder) for finder in sys.meta_path];"
        "import hospitium.operations.serving, hospitium.operations.offering,"
        " hospitium.operations.networked, hospitium.operations.runs, hospitium.operations.doctor"
    )
    subprocess.run([sys.executable, "-c", words, SCRIPT.parent], check=True, cwd=tmp_path)


@pytest.mark.ci
def test_without_torch_a_plan_needs_its_first_params_and_says_how_they_are_made(tmp_path):
    home, path = tmp_path / "home", tmp_path / "plan.toml"
    told(home, "coordinator", "init", NAME, "--address", "https://hub.example.org")
    plan = replace(tiny_plan(batching="equal"), model=SMALL_CNN)
    path.write_text(to_toml(plan))
    status, refused = told(home, "coordinator", "offer", path)
    assert (status, refused["code"]) == (3, "E101")
    assert "hospitium plan first-params PLAN --out FILE" in refused["error"]
    assert told(home, "plan", "first-params", path, "--out", tmp_path / "first")[0] == 3
    path.write_text(to_toml(with_first_params(plan, tmp_path)))
    assert told(home, "coordinator", "offer", path)[0] == 0


@pytest.mark.ci
def test_it_takes_a_run_of_a_torch_model_to_its_end(tmp_path, pool):
    assert {"torch", "pydicom"} <= ABSENT
    with Between(tmp_path, pool, site_ids=["bergen", "oslo"]) as two:
        for site_id in two.site_ids:
            policy = two.federation.place(site_id).folder / "policy.toml"
            policy.write_text(policy.read_text().replace('"logistic"', '"small_cnn"'))
        home = two.home.folder
        plan = replace(tiny_plan(rounds=2, batching="equal"), model=SMALL_CNN)
        plan = with_first_params(plan, tmp_path)
        (tmp_path / "plan.toml").write_text(to_toml(plan))
        assert told(home, "coordinator", "offer", tmp_path / "plan.toml")[0] == 0
        up = subprocess.Popen(
            command("coordinator", "up", "--host", "127.0.0.1", "--json"),
            env=environment(home), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert json.loads(up.stdout.readline())["kind"] == "serving"
            two.approve(plan, "bergen", "oslo")
            two.attend("bergen", "oslo")
            assert told(home, "run", "start", plan.digest, "--federation", NAME)[0] == 0
            wait_for(lambda: told(home, "run", "list")[1][0].get("report"))
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(60)
            up.stdout.close()


def with_first_params(plan, folder):
    """Return a plan with a file of first params, written where torch is."""
    (folder / "seed.toml").write_text(to_toml(plan))
    file = folder / "first.safetensors"
    written = write_first_params(folder / "seed.toml", out=file)
    model = replace(plan.model, init_file=str(file), init_sha256=written["init_sha256"])
    return replace(plan, model=model)
