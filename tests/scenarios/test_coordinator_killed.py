"""The coordinator as a real process over TLS: killed at any moment it goes on to the same bits."""

import random
from pathlib import Path

import pytest
from between_machines import Between, record_of, wait_for
from carried import NAME
from processes import Command, closed_rounds
from tiny import folder_in_memory, tiny_plan

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.operations.networked import start_networked

pytestmark = [pytest.mark.ci, pytest.mark.slow]

SITES = ["bergen", "kiel", "oslo", "turku"]
ROUNDS = 25


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)


@pytest.fixture
def four(tmp_path):
    pool = WorkerPool(answer_request, num_workers=2)
    with Between(tmp_path / "real", pool, site_ids=SITES) as machines:
        yield machines
    pool.close()


def prepared(machines):
    machines.up()
    plan = machines.offer(tiny_plan(rounds=ROUNDS, batching="equal"))
    machines.approve(plan, *SITES)
    machines.attend(*SITES)
    return machines.start(plan, has_canary=True)


@pytest.fixture
def coordinator(four):
    """Start the coordinator; whatever happens, it is not left running."""
    started = []

    def start():
        words = ("coordinator", "up", "--host", "127.0.0.1")
        started.append(Command("--home", four.home.folder, *words, home=four.home.folder))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.kill_9()


def test_a_coordinator_that_is_killed_five_times_ends_with_the_bits_of_an_unbroken_run(
    four, coordinator, tmp_path
):
    unbroken = prepared(four)
    four.finished()
    four.down()
    expected = record_of(unbroken)
    shown = Command(
        "--home", four.home.folder, "run", "show", "study-canary", home=four.home.folder
    )
    assert shown.wait() == 0, shown.err
    for name in ("study", "study-canary"):
        four.home.run(name).rename(tmp_path / name)
    found = start_networked(
        four.home, NAME, expected["run"]["plan_digest"], run_id="killed", has_canary=False
    )
    killed = Path(found["folder"])
    draw = random.Random(11)
    for target in sorted(draw.sample(range(1, ROUNDS - 4), 5)):
        command = coordinator()
        command.wait_until(lambda target=target: closed_rounds(four.home.folder) >= target)
        command.kill_9()
    command = coordinator()
    report = killed / "report" / "report.json"
    wait_for(report.is_file, timeout_s=120)
    assert record_of(killed) == expected
    command.process.terminate()
    assert command.wait() == 0 and "The coordinator has ended" in command.err
    assert not list(four.home.folder.glob("runs/**/*.part"))
