"""A full disk at a site, then at the coordinator: it is said, and nothing is lost."""

import json
import os
import subprocess
import sys

import pytest
from figures import figure
from machines import Machines, answered, closed, plan_of, rounds, seats, wait_for
from undisturbed import require_same_bits

pytestmark = [pytest.mark.ci, pytest.mark.slow]

ROUNDS = 60


@pytest.fixture
def small_disks(tmp_path):
    """Give the coordinator and one site file systems of their own, of 24 MB each."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small file system needs Linux and root")
    places = [tmp_path / "net" / name for name in ("coordinator", "oslo")]
    mounted = []
    for place in places:
        place.mkdir(parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], capture_output=True
        )
        if done.returncode:
            _unmount(mounted)
            pytest.skip(f"no file system can be mounted here: {done.stderr!r}")
        mounted.append(place)
    yield places
    _unmount(mounted)


def _unmount(places):
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place):
    """Write until not a byte is left; return the file."""
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def test_full_disks_are_said_and_all_goes_on_when_there_is_space(tmp_path, small_disks):
    with Machines(tmp_path / "net", ["bergen", "kiel", "oslo"]) as field:
        plan = field.offer(plan_of(rounds=ROUNDS, deadline_s=3, name="full"))
        run = field.start(plan, "full")
        field.up()
        field.attend(*field.site_ids)
        wait_for(lambda: closed(run) >= 2)

        filler = fill(small_disks[1])
        wait_for(lambda: "oslo" not in answered(run).get(closed(run), {"oslo"}))
        without = closed(run)
        reason = seats(run, without)["oslo"]
        filler.unlink()
        wait_for(lambda: any("oslo" in answered(run)[n] for n in range(without, closed(run) + 1)))

        filler = fill(small_disks[0])
        wait_for(lambda: "No space left" in field.centre.err or "full" in field.centre.err)
        assert field.centre.process.poll() is None
        before = closed(run)
        filler.unlink()
        wait_for(lambda: closed(run) > before)
        field.finished(run)
        assert len(rounds(run)) == ROUNDS
        require_same_bits(field, run, tmp_path / "again")
        assert json.loads((run / "state.json").read_bytes())["state"] == "finished"
    figure("disk", f"the site: left out ({reason.partition(': ')[2]}), back later; same bits")
