"""The real command line, with real processes that are interrupted, killed, and gone on with."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import Command, closed_rounds, only_run, outcome
from report_schema import problems_of
from tiny import hospitium, images_of, write_npz

pytestmark = pytest.mark.ci

SITES, ROUNDS = 3, 20
ALL_ROUNDS = ROUNDS * (1 + 1 + SITES)  # the federation, the pooled baseline, each alone
WORDS = (
    *("demo", "--sites", SITES, "--partition", "iid", "--model", "logistic"),
    *("--rounds", ROUNDS, "--seed", 5),
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What the run comes to where nobody disturbs it."""
    folder = tmp_path_factory.mktemp("unbroken")
    data = write_npz(folder / "tiny.npz")
    done = hospitium(*WORDS, "--data", data, home=folder / "home")
    assert done.returncode == 0, done.stderr
    return outcome(folder / "home")


@pytest.fixture
def start(tmp_path):
    """Start the same run in a home of its own; whatever happens, nothing of it is left running."""
    home, data = tmp_path / "home", write_npz(tmp_path / "tiny.npz")
    started = []

    def start(*words):
        started.append(Command(*(words or (*WORDS, "--data", data)), home=home))
        return started[-1]

    start.home = home
    yield start
    for command in started:
        for pid in command.group():
            os.kill(pid, signal.SIGKILL)


def resume(start):
    return start("run", "resume", only_run(start.home).name)


MOMENTS = {
    "while the data are read": lambda command, home: "Reading images" in command.err,
    "in the first rounds": lambda command, home: closed_rounds(home) >= 2,
    "while baselines are trained": lambda command, home: closed_rounds(home) > ROUNDS + 8,
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda x: x.name)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_demo_that_is_interrupted_leaves_nothing_behind_and_goes_on(
    start, unbroken, number, moment
):
    command = start()
    command.wait_until(lambda: MOMENTS[moment](command, start.home))
    if number == signal.SIGINT:  # as a terminal does: to everyone in the group
        os.killpg(command.process.pid, number)
    else:
        command.process.send_signal(number)
    assert command.wait() == 130, command.err
    command.wait_for_the_last()
    assert "Error E003: Interrupted." in command.err and "Traceback" not in command.err
    assert not list(start.home.rglob("*.part"))
    if "read" in moment:
        assert list((start.home / "runs").iterdir()) == []
        return
    command = resume(start)
    assert command.wait() == 0, command.err
    assert outcome(start.home) == unbroken


def test_a_demo_that_is_killed_ten_times_at_random_ends_as_an_unbroken_one(start, unbroken):
    draw = random.Random(2)
    command = start()
    for target in sorted(draw.sample(range(1, ALL_ROUNDS - 5), 10)):
        moment = draw.uniform(0, 0.05)
        command.wait_until(lambda target=target: closed_rounds(start.home) >= target)
        with pytest.raises(subprocess.TimeoutExpired):
            command.process.wait(moment)
        command.kill_9()
        command = resume(start)
    assert command.wait() == 0, command.err
    assert outcome(start.home) == unbroken
    assert not list(start.home.rglob("*.part"))
    report = json.loads((only_run(start.home) / "report" / "report.json").read_text())
    assert problems_of(report) == [] and report["interruptions"]


def test_a_second_process_on_the_same_run_is_told_so_and_does_no_harm(start, unbroken):
    command = start()
    command.wait_until(lambda: closed_rounds(start.home) >= 2)
    os.killpg(command.process.pid, signal.SIGSTOP)  # held still, the lock is held too
    name = only_run(start.home).name
    done = hospitium("run", "resume", name, "--json", home=start.home)
    os.killpg(command.process.pid, signal.SIGCONT)
    assert json.loads(done.stdout)["code"] == "E306"
    assert command.wait() == 0, command.err
    assert outcome(start.home) == unbroken


def test_a_worker_that_is_killed_costs_one_site_at_most_one_round(start):
    data = start.home.parent / "tiny.npz"
    command = start(*WORDS, "--data", data, "--rounds", 60)
    command.wait_until(lambda: closed_rounds(start.home) >= 2)
    os.kill(_workers(command)[0], signal.SIGKILL)
    assert command.wait() == 0, command.err
    report = json.loads((only_run(start.home) / "report" / "report.json").read_text())
    left_out = [item for row in report["participation"] for item in row["left_out"]]
    assert len(left_out) <= 1
    assert all(item["reason"].startswith("died") for item in left_out)


def _workers(command):
    return [
        pid
        for pid in command.group() - {command.process.pid}
        if b"worker_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


COORDINATOR = """
import resource, sys
from pathlib import Path
from tiny import prepare, tiny_plan
from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.operations.progress import silent
from hospitium.operations.running import OnThisMachine, open_ledger, run_to_end

if __name__ == "__main__":
    folder, sites, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if not (folder / "ledger.sqlite").exists():
        prepare(folder, tiny_plan(rounds=rounds), num_sites=sites, scale=7)
        sys.exit()
    pool = WorkerPool(answer_request, num_workers=2)
    chosen = run_to_end(folder, engines=OnThisMachine(pool), say=silent, label="federated")
    pool.close()
    ledger = open_ledger(folder)
    assert len(ledger.rows("SELECT 1 FROM seats WHERE status = 'accepted'")) == sites * rounds
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_two_hundred_sites_take_no_more_memory_than_fifty_and_many_rounds_than_few(tmp_path):
    (tmp_path / "coordinator.py").write_text(COORDINATOR)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}

    def peak_kib(sites, rounds):
        words = [sys.executable, tmp_path / "coordinator.py", tmp_path / f"{sites}-{rounds}"]
        words += [str(sites), str(rounds)]
        for _ in ("prepare", "run"):
            done = subprocess.run(
                words, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        return int(done.stdout)

    few = peak_kib(50, 2)
    assert peak_kib(200, 2) <= 1.3 * few
    assert peak_kib(50, 6) <= 1.3 * few


@pytest.fixture
def seven_hospitals(tmp_path):
    """A folder as people have it: seven sites of unequal size, all kinds of files, one-sided."""
    folder = tmp_path / "hospitals"
    (folder / "images").mkdir(parents=True)
    rows = ["image,finding,hospital,patient"]
    sizes = {"oslo": 250, "bern": 180, "lyon": 120, "graz": 90, "gent": 70, "ulm": 60, "pisa": 50}
    for index, (site, num) in enumerate(sizes.items()):
        images, labels = images_of(num, seed=index, size=24)
        for number, image in enumerate(images):
            name = f"{site}-{number:03d}.{'jpg' if site == 'lyon' else 'png'}"
            _save(folder / "images" / name, image, kind=(index + number) % 3, site=site)
            label = labels[number] if site != "pisa" else int(number == 7)  # nearly one class
            rows.append(
                f"images/{name},{'sick' if label else 'healthy'},{site},{site}-{number // 2}"
            )
    rows += ["images/oslo-000.png,,oslo,oslo-0", "images/nowhere.png,sick,oslo,oslo-x"]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def _save(path, image, *, kind, site):
    """Write an image as 8-bit grey, as colour, or as 16-bit grey."""
    if kind == 0 or site == "lyon":
        Image.fromarray(image).save(path)
    elif kind == 1:
        Image.fromarray(np.stack([image] * 3, axis=2)).save(path)
    else:
        Image.fromarray(image.astype(np.uint16) * 257).save(path)


def test_other_peoples_folders_with_seven_unequal_sites_run_without_a_line_of_code(
    seven_hospitals, tmp_path
):
    done = hospitium(
        *("demo", "--data", seven_hospitals, "--partition", "column:hospital"),
        *("--label", "finding", "--subject-column", "patient", "--model", "logistic"),
        *("--rounds", 4, "--image-size", 24, "--json"),
        home=tmp_path / "home",
        timeout_s=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert problems_of(report) == []
    assert len(report["sites"]) == 7
    assert "Left out: 1 missing file, 1 no label." in report["partition"]["note"]
    assert all(row["answered"] == row["asked"] for row in report["participation"])
    own = report["results"]["federated"]["per_site"]["pisa"]["own"]
    assert own["auroc"]["estimate"] is None and own["auroc"]["reason"] == "one class only"
    assert own["sensitivity"]["reason"] == "one class only"
    assert own["accuracy"]["n"] == 10 and 0 <= own["specificity"]["estimate"] <= 1
