"""A kill at each point that a machine passes, by its number: the run must end as an unbroken one.

Points are before and after each durable write, each fsync, each request, and each training, at the
coordinating centre and at a site. After a power cut what was not synced may be torn or gone.
"""

from pathlib import Path

import pytest
from faults import CENTRE, Fault, Scenario
from simulated_federation import SITES

from simulation import require_holds, simulate

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="what was synced is read from /proc"
)

SEED = 1


def points_of(who):
    """Return the names of the points that a machine passes in a world without faults."""
    seen = {name: [] for name in (CENTRE, *SITES)}
    simulate(Scenario(seed=SEED, must_end=True, faults=()), seen=seen)
    return seen[who]


def ends_alike(unbroken, who, numbers, kind):
    """Crash at each of these points, one world for each; return how many came to the same bits."""
    alike = 0
    for number in numbers:
        fault = Fault(kind=kind, who=who, amount=number, for_s=2.0)
        outcome = simulate(Scenario(seed=SEED, must_end=True, faults=(fault,)))
        require_holds(outcome)
        assert outcome.is_finished and len(outcome.rounds) == len(unbroken.rounds), fault
        alike += outcome.params == unbroken.params
    return alike


@pytest.fixture(scope="module")
def unbroken():
    return simulate(Scenario(seed=SEED, must_end=True, faults=()))


def test_the_points_are_many_and_of_every_kind():
    centre, site = points_of(CENTRE), points_of("oslo")
    for name in ("opened", "received", "closed", "finished", "put tasks", "take answer", "asked"):
        assert {f"before commit: {name}", f"after commit: {name}"} <= set(centre), name
    assert {"before fsync", "before write", "before rename", "after rename"} <= set(centre)
    assert {
        "before append", "leaf appended", "leaf synced", "before fsync of the log",
        "before training", "after training", "before GET /v1/tasks", "after GET /v1/blobs/*",
        "before PUT /v1/uploads/*/chunks/*", "after PUT /v1/uploads/*/chunks/*",
        "before POST /v1/uploads/*/complete", "after POST /v1/uploads/*/complete",
    } <= set(site)  # fmt: skip
    assert len(centre) > 150 and len(site) > 200


@pytest.mark.parametrize("who", [CENTRE, "oslo"])
def test_a_kill_at_some_points_ends_as_an_unbroken_run(unbroken, who):
    numbers = range(3, len(points_of(who)), 61)
    assert ends_alike(unbroken, who, numbers, "crash") == len(numbers)


@pytest.mark.ci
@pytest.mark.timeout(500)
@pytest.mark.parametrize("who", [CENTRE, "oslo"])
@pytest.mark.parametrize("kind", ["crash", "power_cut"])
def test_a_kill_or_power_cut_at_every_seventh_point_ends_as_an_unbroken_run(unbroken, who, kind):
    numbers = range(kind == "crash", len(points_of(who)), 7)
    assert ends_alike(unbroken, who, numbers, kind) == len(numbers)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("who", [CENTRE, *SITES])
@pytest.mark.parametrize("kind", ["crash", "power_cut"])
def test_a_kill_or_power_cut_at_every_point_ends_as_an_unbroken_run(unbroken, who, kind):
    numbers = range(len(points_of(who)))
    assert ends_alike(unbroken, who, numbers, kind) == len(numbers)
