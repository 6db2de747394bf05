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

NUM_CORES = len(os.sched_getaffinity(0))
NUM_SEEDS = 2000 if NUM_CORES >= 8 else 200
"""Each is a fifth of a second of one core: eight cores do the larger number in a minute."""

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
def test_every_invariant_holds_in_each_of_the_first_seeds():
    assert _num_finished(NUM_SEEDS, each=25) > 0.66 * NUM_SEEDS


@pytest.mark.slow
@pytest.mark.timeout(20_000)
def test_every_invariant_holds_in_each_of_100_000_seeds():
    assert _num_finished(100_000, each=500) > 66_000


def _num_finished(num_seeds: int, *, each: int) -> int:
    """Require that all holds in the first seeds; return in how many the run came to its end."""
    spans = [range(start, start + each) for start in range(0, num_seeds, each)]
    total = 0
    with ProcessPoolExecutor(NUM_CORES) as pool:
        for broken, num_finished in pool.map(_simulated, spans):
            for seed in broken:
                require_holds(simulate(seed))  # tells what happened
            assert not broken, f"{broken} do not hold where others ran before them"
            total += num_finished
    return total


def _simulated(seeds: range) -> tuple[list[int], int]:
    """Return the seeds in which something does not hold, and in how many the run ended."""
    outcomes = {seed: simulate(seed) for seed in seeds}
    broken = [seed for seed, outcome in outcomes.items() if outcome.broken]
    return broken, sum(outcome.is_finished for outcome in outcomes.values())
