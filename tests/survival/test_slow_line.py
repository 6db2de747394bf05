"""A large model over a line of 10 Mbit/s that is cut: what had arrived is not sent again."""

import time
from dataclasses import replace

import numpy as np
import pytest
from figures import figure
from machines import Machines, answered, closed, plan_of, seats, wait_for

from hospitium.plan.schema import ModelSection
from hospitium.state.unfinished import CHUNK_BYTES
from hospitium.training import trainer_for
from hospitium.wire.blob import manifest_of, size_of

MBIT = 125_000
SITES = ["kiel", "oslo"]


def large(name, widths):
    args = {"widths": widths, "convs_per_stage": 1, "dropout": 0.0}
    plan = plan_of(rounds=1, deadline_s=3 * 3600, name=name, optimizer="sgd")
    return replace(
        plan,
        model=ModelSection(name="small_cnn", args=args),
        training=replace(plan.training, steps=1, batch_size=4),
    )


def allow(plan, machines):
    """Have every site's policy allow the model of a plan, and offer the plan."""
    for site_id in SITES:
        policy = machines.place(site_id).folder / "policy.toml"
        policy.write_text(policy.read_text().replace("logistic", plan.model.name))
    machines.offer(plan)


def cut_five_times(folder, plan, *, down_cuts, up_cuts, timeout_s):
    """Run one round with one site behind the slow line; return size, bytes each way, and time."""
    size = size_of(manifest_of(trainer_for(plan, device="cpu").first_params()))
    with Machines(folder, SITES) as machines:
        allow(plan, machines)
        run = machines.start(plan, "large")
        machines.up()
        gate = machines.gates["oslo"]
        gate.up_per_s = gate.down_per_s = 10 * MBIT
        gate.down_marks = [int(size * share) for share in down_cuts]
        gate.up_marks = [int(size * share) for share in up_cuts]
        machines.attend("kiel")
        begun = time.monotonic()
        machines.attend("oslo")
        wait_for(lambda: closed(run) == 1, timeout_s=timeout_s)
        down, up, took_s = gate.down, gate.up, time.monotonic() - begun
        assert seats(run, 1) == {"kiel": "accepted", "oslo": "accepted"}
        assert answered(run)[1] == frozenset(SITES)
        assert gate.num_cuts == len(down_cuts) + len(up_cuts)
    return size, down, up, took_s


@pytest.mark.ci
def test_8_mb_cut_five_times_are_not_sent_again(tmp_path):
    size, down, up, took_s = cut_five_times(
        tmp_path / "net",
        large("eight", [8, 128, 1792]),
        down_cuts=[0.1, 0.3, 0.5, 0.7],
        up_cuts=[0.5],
        timeout_s=150,
    )
    assert 8e6 < size < 9e6
    assert down <= 1.1 * size
    assert up <= 1.1 * size + CHUNK_BYTES  # of a chunk that was cut, nothing counts
    figure(
        "line_8",
        f"{size / 1e6:.1f} MB, cut 5 times: {down / size:.3f} x its size down, "
        f"{up / size:.3f} x up, {took_s:.0f} s",
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_760_mb_cut_five_times_each_way_are_not_sent_again(tmp_path_factory):
    size, down, up, took_s = cut_five_times(
        tmp_path_factory.mktemp("large"),
        large("large", [64, 2560, 8192]),
        down_cuts=list(np.linspace(0.08, 0.91, 5)),
        up_cuts=list(np.linspace(0.13, 0.88, 5)),
        timeout_s=3600,
    )
    assert 755e6 < size < 770e6
    assert down <= 1.1 * size and up <= 1.1 * size
    figure(
        "line_760",
        f"{size / 1e6:.0f} MB, cut 5 times each way: {down / size:.3f} x its size down, "
        f"{up / size:.3f} x up, {took_s / 60:.0f} min",
    )
