"""Sites whose clocks are wrong by a day, and one whose hours begin after the round did."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from figures import figure
from machines import Machines, closed, plan_of, seats, took_s, wait_for
from undisturbed import require_same_bits_as_all

pytestmark = pytest.mark.ci

DAY_S = 86_400
OPENS = "12:00-13:00 utc"


@pytest.fixture
def clock(tmp_path):
    """Return a function that gives the environment of a process with a wrong clock."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("a wrong clock needs Linux and a C compiler")
    library = tmp_path / "skewed_clock.so"
    source = Path(__file__).with_name("skewed_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return lambda offset_s: {"LD_PRELOAD": str(library), "CLOCK_OFFSET_S": str(round(offset_s))}


def test_sites_a_day_ahead_and_a_day_behind_take_part_in_every_round(tmp_path, clock):
    with Machines(tmp_path / "net", ["bergen", "kiel", "oslo"]) as field:
        run = field.start(field.offer(plan_of(rounds=5, deadline_s=60, name="skew")), "skew")
        field.up()
        field.attend("bergen", env=clock(DAY_S))
        field.attend("kiel", env=clock(-DAY_S))
        field.attend("oslo")
        field.finished(run)
        ahead, behind = (written(field, name) for name in ("bergen", "kiel"))
        assert ahead - datetime.now(UTC) > timedelta(hours=23)
        assert datetime.now(UTC) - behind > timedelta(hours=23)
        require_same_bits_as_all(field, run, tmp_path / "again")
        longest_s = max(took_s(run, number) for number in range(2, 6))
    figure("skew", f"in every round; the longest after the first took {longest_s:.1f} s; same bits")


def written(field, site_id):
    """Return the time that an agent thinks it is."""
    wait_for(lambda: "time" in field.status(site_id))
    return datetime.fromisoformat(field.status(site_id)["time"])


def test_a_round_waits_within_its_deadline_for_a_site_whose_hours_begin_later(tmp_path, clock):
    policies = {"oslo": f'[hours]\nwindows = ["{OPENS}"]\n'}
    with Machines(tmp_path / "net", ["kiel", "oslo"], policies=policies) as field:
        run = field.start(field.offer(plan_of(rounds=2, deadline_s=90, name="hours")), "hours")
        field.up()
        field.attend("kiel")
        wait_for(lambda: seats(run, 1).get("kiel") == "accepted")
        now = datetime.now(UTC)
        opening = now.replace(hour=12, minute=0, second=0, microsecond=0)
        before_s = 12.0
        field.attend("oslo", env=clock((opening - now).total_seconds() - before_s))
        wait_for(lambda: field.status("oslo").get("state") is not None)
        assert closed(run) == 0 and seats(run, 1)["oslo"] == "asked"
        field.finished(run)
        assert before_s - 5 < took_s(run, 1) < 90
        require_same_bits_as_all(field, run, tmp_path / "again")
        waited_s = took_s(run, 1)
    figure("window", f"open for {waited_s:.0f} s of a deadline of 90 s, closed with both sites")
