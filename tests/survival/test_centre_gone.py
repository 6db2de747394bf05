"""A coordinator, with its hub, that is killed, that loses what it kept, and that is long away."""

import random
import time

import pytest
from figures import figure
from machines import closed, plan_of, rounds, seats, wait_for
from undisturbed import require_same_bits_as_all

pytestmark = pytest.mark.ci

AWAY_S = 6.0


def test_a_coordinator_killed_at_random_moments_ends_with_the_bits_of_an_undisturbed_run(
    field, tmp_path
):
    run = field.start(field.offer(plan_of(rounds=12, deadline_s=60, name="centre")), "centre")
    draw = random.Random(5)
    kills = sorted(draw.sample(range(1, 11), 3))
    for target in kills:
        wait_for(lambda target=target: closed(run) >= target)
        time.sleep(draw.uniform(0.0, 0.3))
        field.down()
        field.up()
    field.finished(run)
    require_same_bits_as_all(field, run, tmp_path / "again")
    figure("centre_killed", f"killed {len(kills)} times in 12 rounds: same bits in every round")


def test_the_whole_transfer_store_lost_in_mid_round_changes_no_bit(field, tmp_path):
    run = field.start(field.offer(plan_of(rounds=30, deadline_s=60, name="store")), "store")
    for number, is_up in ((2, False), (5, True)):
        wait_for(lambda number=number: closed(run) >= number)
        field.hold_worker("oslo")
        wait_for(lambda: caught(run))
        if is_up:
            field.lose_store()
        else:
            field.down()
            field.lose_store()
            field.up()
        field.go_on("oslo")
    field.finished(run)
    require_same_bits_as_all(field, run, tmp_path / "again")
    figure("store", "lost twice in 30 rounds, down and running: same bits in every round")


def caught(run):
    """Whether only one site has not answered yet."""
    found = rounds(run)
    return found and sorted(seats(run, found[-1]["round_number"]).values()) == [
        "accepted", "accepted", "asked",
    ]  # fmt: skip


def test_sites_outlast_a_hub_that_is_away_and_do_not_flood_it(field, tmp_path):
    run = field.start(field.offer(plan_of(rounds=20, deadline_s=60, name="away")), "away")
    wait_for(lambda: closed(run) >= 3)
    field.down()
    before, left = {name: len(gate.tries) for name, gate in field.gates.items()}, time.monotonic()

    def tries():
        return {name: len(gate.tries) - before[name] for name, gate in field.gates.items()}

    time.sleep(AWAY_S)
    wait_for(lambda: min(tries().values()) >= 3)
    most, away_s = max(tries().values()), time.monotonic() - left
    field.up()
    begun = time.monotonic()
    wait_for(lambda: closed(run) >= 4)
    back_s = time.monotonic() - begun
    field.finished(run)
    require_same_bits_as_all(field, run, tmp_path / "again")
    assert most <= 3 * away_s
    figure(
        "outage",
        f"away {away_s:.0f} s: {most} tries of one site at most; the next round "
        f"was closed {back_s:.1f} s after it was back, same bits",
    )
