"""Bugs are planted one by one; the simulation must find each, and by the invariant it breaks."""

from pathlib import Path

import pytest
from bugs import BUGS
from faults import scenario_of

from simulation import simulate

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(
        not Path("/proc/self/fd").is_dir(), reason="what was synced is read from /proc"
    ),
]

SEEDS = range(2000)
"""The seeds that CI runs; a world without the fault that a bug takes is passed over."""


@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_planted_bug_is_found(name):
    bug = BUGS[name]
    tried = 0
    for seed in SEEDS:
        scenario = scenario_of(seed)
        if not bug.needs(scenario):
            continue
        tried += 1
        broken = simulate(scenario, bug=bug.plant()).broken
        if broken:
            assert broken.startswith(bug.found_by), f"seed {seed}: {broken}"
            assert not simulate(scenario).broken, f"seed {seed} fails without the bug too"
            return
    raise AssertionError(f"{name}: not found in {tried} worlds")
