"""Four sites that are killed, stopped and cut at random for a while."""

import random
import time

import pytest
from figures import figure
from machines import Machines, answered, closed, plan_of, rounds, wait_for
from undisturbed import require_same_bits

ROUNDS = 80
SITES = ["bergen", "kiel", "oslo", "turku"]


@pytest.mark.ci
def test_40_s_of_random_faults_end_with_the_bits_of_an_undisturbed_run(tmp_path):
    torment(tmp_path, for_s=40, num_rounds=ROUNDS, name="chaos_short")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_4_min_of_random_faults_end_with_the_bits_of_an_undisturbed_run(tmp_path):
    torment(tmp_path, for_s=240, num_rounds=200, name="chaos")


def torment(folder, *, for_s, num_rounds, name):
    draw = random.Random(20261121)
    done = {"killed": 0, "stopped": 0, "cut off": 0}
    with Machines(folder / "net", SITES) as field:
        run = field.start(field.offer(plan_of(rounds=num_rounds, deadline_s=3, name=name)), name)
        field.up()
        field.attend(*SITES)
        wait_for(lambda: closed(run) >= 1)
        until = time.monotonic() + for_s
        while time.monotonic() < until and closed(run) < num_rounds:
            site_id, fault = draw.choice(SITES), draw.choice(sorted(done))
            done[fault] += 1
            hurt(field, site_id, fault, pause_s=draw.uniform(0.2, 2.5))
            time.sleep(draw.uniform(0.0, 1.0))
        field.finished(run, timeout_s=300)
        assert sum(done.values()) >= 6 and len(rounds(run)) == num_rounds
        present = answered(run)
        assert all(len(there) >= 2 for there in present.values())
        require_same_bits(field, run, folder / "again")
    missing = sum(len(SITES) - len(there) for there in present.values())
    words = ", ".join(f"{number} {word}" for word, number in done.items())
    figure(
        name,
        f"{for_s} s: {words}; {num_rounds} rounds without {missing} of "
        f"{num_rounds * len(SITES)} updates; same bits",
    )


def hurt(field, site_id, fault, *, pause_s):
    """Do one thing to a site, and undo it after a while."""
    if fault == "killed":
        field.kill(site_id)
        time.sleep(pause_s / 2)
        field.attend(site_id)
    elif fault == "stopped":
        field.stop(site_id)
        time.sleep(pause_s)
        field.go_on(site_id)
    else:
        field.gates[site_id].shut()
        time.sleep(pause_s)
        field.gates[site_id].open()
