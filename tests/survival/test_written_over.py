"""A model large enough that files are written over: kills in between change no bit."""

import sys
from dataclasses import replace

import pytest
import torch
from figures import figure
from machines import Machines, answered, closed, wait_for
from test_slow_line import SITES, allow, large
from undisturbed import require_same_bits

ROUNDS = 7


@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is written over")
def test_killed_between_rounds_that_write_over_each_other_a_run_ends_with_the_same_bits(tmp_path):
    plan = large("over", [8, 128, 1024])
    plan = replace(plan, rounds=replace(plan.rounds, count=ROUNDS, deadline_s=120.0))
    with Machines(tmp_path / "net", SITES) as field:
        allow(plan, field)
        run = field.start(plan, "over")
        field.up()
        field.attend(*SITES)
        for after, site_id in ((2, "oslo"), (4, "kiel")):
            wait_for(lambda after=after: closed(run) >= after)
            spares = sorted(field.place(site_id).folder.rglob("*.spare"))
            field.kill(site_id)
            assert len(spares) >= 1, "nothing was written over"
            field.attend(site_id)
        wait_for(lambda: closed(run) >= 5)
        field.down()
        field.up()
        field.finished(run, timeout_s=120)
        present = answered(run)
        assert present == {number: frozenset(SITES) for number in range(1, ROUNDS + 1)}
        torch.set_num_threads(1)  # as workers do
        require_same_bits(field, run, tmp_path / "again")
        assert not [*field.home.folder.rglob("hub/spares/*")]
    figure("written_over", f"{ROUNDS} rounds, 2 sites and the coordinator killed: same bits")
