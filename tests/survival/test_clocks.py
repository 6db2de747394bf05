"""Sites whose clocks are wrong by a day, and one whose hours begin after the round did."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from figures import figure
from machines import Machines, plan_of, seats, took_s, wait_for
from undisturbed import require_same_bits_as_all

pytestmark = pytest.mark.ci

DAY_S = 86_400
OPENS = "12:00-13:00 utc"
BEFORE_S = 12.0
"""How long before its hours a site's agent starts, by its own clock."""


@pytest.fixture
def clock(tmp_path):
    """Return a function that gives the environment of a process with a wrong clock."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("a wrong clock needs Linux and a C compiler")
    library = tmp_path / "skewed_clock.so"
    source = Path(__file__).with_name("skewed_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return lambda offset_s: {"LD_PRELOAD": str(library), "CLOCK_OFFSET_S": str(round(offset_s))}


def written(field, site_id):
    """Return the time that an agent thinks it is."""
    wait_for(lambda: "time" in field.status(site_id))
    return datetime.fromisoformat(field.status(site_id)["time"])


def test_wrong_clocks_and_hours_that_begin_later_cost_no_round_and_no_bit(tmp_path, clock):
    policies = {"oslo": f'[hours]\nwindows = ["{OPENS}"]\n'}
    with Machines(tmp_path / "net", ["bergen", "kiel", "oslo"], policies=policies) as field:
        run = field.start(field.offer(plan_of(rounds=5, deadline_s=90, name="clocks")), "clocks")
        field.up()
        field.attend("bergen", env=clock(DAY_S))
        field.attend("kiel", env=clock(-DAY_S))
        wait_for(
            lambda: [seats(run, 1).get(name) for name in ("bergen", "kiel")] == ["accepted"] * 2
        )
        ahead, behind = (written(field, name) for name in ("bergen", "kiel"))
        assert ahead - datetime.now(UTC) > timedelta(hours=23)
        assert datetime.now(UTC) - behind > timedelta(hours=23)

        now = datetime.now(UTC)
        opening = now.replace(hour=12, minute=0, second=0, microsecond=0)
        field.attend("oslo", env=clock((opening - now).total_seconds() - BEFORE_S))
        wait_for(lambda: field.status("oslo").get("state") is not None)
        field.finished(run)
        assert took_s(run, 1) >= BEFORE_S - 1  # the offset is rounded to seconds
        require_same_bits_as_all(field, run, tmp_path / "again")
        longest_s = max(took_s(run, number) for number in range(2, 6))
        waited_s = took_s(run, 1)
    figure("skew", f"in every round; the longest after the first took {longest_s:.1f} s; same bits")
    figure(
        "window", f"open for {waited_s:.0f} s of a deadline of 90 s, closed with all three sites"
    )
