"""A coordinator and four sites that are killed, stopped and cut at random for a while."""

import os
import random
import sys
import time

import pytest
from figures import figure
from machines import Machines, answered, closed, plan_of, rounds, wait_for
from undisturbed import require_same_bits

SITES = ["bergen", "kiel", "oslo", "turku"]
CENTRE = "coordinator"
FAULTS = ("cut off", "killed", "stopped")
SEED = int(os.environ.get("NEMESIS_SEED", "20261121"))
LONG_S = float(os.environ.get("NEMESIS_S", "600"))
NEVER_REACHED = 5000
ROUNDS_AFTER = 5


@pytest.mark.ci
def test_2_min_of_random_faults_end_with_the_bits_of_an_undisturbed_run(tmp_path):
    torment(tmp_path, until_s=70, num_rounds=80, name="chaos_short")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_10_min_of_random_faults_end_with_the_bits_of_an_undisturbed_run(tmp_path):
    torment(tmp_path, until_s=LONG_S, num_rounds=NEVER_REACHED, name="chaos")


def torment(folder, *, until_s, num_rounds, name):
    """Do one thing after another to one machine after another; then every round must be as ever.

    The faults end after a time, however quick the machine is; a run that is not done by then must
    go on by itself, and is looked at as far as it came.

    Args:
        folder: For everything.
        until_s: When the faults end, counted from the very beginning.
        num_rounds: Of the plan.
        name: Of the figure.
    """
    begun, draw = time.monotonic(), random.Random(SEED)
    done, hit = dict.fromkeys(FAULTS, 0), dict.fromkeys([CENTRE, *SITES], 0)
    with Machines(folder / "net", SITES) as field:
        sys.stdout.write(f"NEMESIS_SEED={SEED}\n")  # pytest shows it with the failure
        run = field.start(field.offer(plan_of(rounds=num_rounds, deadline_s=4, name=name)), name)
        field.up()
        field.attend(*SITES)
        wait_for(lambda: closed(run) >= 1)
        first_s = time.monotonic() - begun
        while time.monotonic() - begun < until_s and closed(run) < num_rounds:
            target, fault = draw.choice(sorted(hit)), draw.choice(FAULTS)
            done[fault], hit[target] = done[fault] + 1, hit[target] + 1
            hurt(field, target, fault, pause_s=draw.uniform(0.2, 2.5))
            time.sleep(draw.uniform(0.0, 1.0))
        hurt_s = time.monotonic() - begun - first_s
        if num_rounds == NEVER_REACHED:
            far = closed(run) + ROUNDS_AFTER
            wait_for(lambda: closed(run) >= far)
            field.down()
        else:
            field.finished(run, timeout_s=2.0 * num_rounds)  # the machine may be busy
            assert len(rounds(run)) == num_rounds
        assert all(done.values()) and all(hit.values())
        present = answered(run)
        assert all(len(there) >= 2 for there in present.values())
        require_same_bits(field, run, folder / "again")
    missing = sum(len(SITES) - len(there) for there in present.values())
    words = ", ".join(f"{number} {word}" for word, number in sorted(done.items()))
    figure(
        name,
        f"{hurt_s:.0f} s: {words}, {hit[CENTRE]} of these the coordinator; {len(present)} rounds "
        f"without {missing} of {len(present) * len(SITES)} updates; same bits",
    )


def hurt(field, target, fault, *, pause_s):
    """Do one thing to a machine, and undo it after a while."""
    if fault == "killed":
        field.down() if target == CENTRE else field.kill(target)
        time.sleep(pause_s / 2)
        field.up() if target == CENTRE else field.attend(target)
    elif fault == "stopped":
        field.stop(target)
        time.sleep(pause_s)
        field.go_on(target)
    else:
        gates = [gate for name, gate in field.gates.items() if target in (name, CENTRE)]
        for gate in gates:
            gate.shut()
        time.sleep(pause_s)
        for gate in gates:
            gate.open()
