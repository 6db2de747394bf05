"""Seeds: each is a world with its own faults, in which every invariant must hold."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from faults import CENTRE, Fault, Scenario, scenario_of, shrunk
from simulated_federation import ROUNDS

from simulation import require_holds, simulate

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="what was synced is read from /proc"
)

QUIET = Scenario(seed=1, must_end=True, faults=())


def test_a_world_without_faults_ends_with_the_same_params_whatever_the_order_of_events():
    outcomes = [simulate(Scenario(seed=seed, must_end=True, faults=())) for seed in range(3)]
    for outcome in outcomes:
        require_holds(outcome)
    assert len({outcome.params for outcome in outcomes}) == 1
    assert all(outcome.is_finished and len(outcome.rounds) == ROUNDS for outcome in outcomes)
    assert all(outcome.num_checks > 50 for outcome in outcomes)


def test_a_seed_is_the_same_world_each_time():
    first, again = simulate(4), simulate(4)
    assert first == again and first.told == again.told


def test_a_run_that_lost_power_in_a_round_ends_with_the_params_of_an_unbroken_one():
    faults = (
        Fault(kind="power_cut", who=CENTRE, amount=60, for_s=1.0),
        Fault(kind="power_cut", who="oslo", amount=90, for_s=1.0),
    )
    outcome = simulate(Scenario(seed=1, must_end=True, faults=faults))
    require_holds(outcome)
    assert outcome.is_finished and outcome.params == simulate(QUIET).params


def test_a_broken_invariant_is_told_with_its_seed_and_the_faults_that_matter():
    faults = (Fault(kind="drop", amount=0.1), Fault(kind="delay", amount=3.0))
    scenario = Scenario(seed=5, must_end=False, faults=faults)
    least = shrunk(scenario, lambda found: any(fault.kind == "drop" for fault in found.faults))
    assert least.faults == faults[:1]


def test_the_first_seeds_draw_every_kind_of_fault():
    kinds = {fault.kind for seed in range(300) for fault in scenario_of(seed).faults}
    assert {
        "drop", "duplicate", "corrupt", "replay", "old_list", "delay", "cut", "crash", "power_cut",
        "full", "slow", "clock", "lost_store", "second", "revoke", "withdraw", "new_list", "lie",
        "split",
    } == kinds  # fmt: skip


@pytest.mark.parametrize("seed", range(2000, 2006))
def test_every_invariant_holds_through_the_whole_application_too(seed):
    require_holds(simulate(seed, through_framework=True), through_framework=True)


@pytest.mark.ci
@pytest.mark.timeout(500)
@pytest.mark.parametrize("part", range(4))
def test_every_invariant_holds_in_each_of_200_seeds(part):
    finished = 0
    for seed in range(50 * part, 50 * part + 50):
        outcome = simulate(seed)
        require_holds(outcome)
        finished += outcome.is_finished
    assert finished > 33, f"only {finished} of 50 runs came to their end"


@pytest.mark.slow
@pytest.mark.timeout(20_000)
def test_every_invariant_holds_in_each_of_100_000_seeds():
    spans = [range(start, start + 500) for start in range(0, 100_000, 500)]
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        for broken in pool.map(_broken, spans):
            for seed in broken:
                require_holds(simulate(seed))


def _broken(seeds: range) -> list[int]:
    """Return the seeds in which something does not hold."""
    return [seed for seed in seeds if simulate(seed).broken]
