"""Disks that really are full, small or read-only."""

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from runs import create, go_on, small_plan
from stopping import go_on_until_round

from hospitium.errors import HospitiumError, StorageError
from hospitium.state.home import Home, locked

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)):
        pytest.skip("a small disk can be mounted by root only; see the test with a file limit")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def _mount(*words):
    found = subprocess.run(["mount", *words], capture_output=True, check=False)
    return found.returncode == 0


def _unbroken(folder):
    create(folder, small_plan())
    return go_on(folder)[1]


def _fill(disk, leaving):
    """Fill a disk but for so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    os.truncate(filler, max(0, filler.stat().st_size - leaving))


@pytest.mark.parametrize("leaving", [0, 4096, 16_384, 40_960])
def test_a_full_disk_stops_a_run_in_plain_words_and_it_goes_on_when_there_is_room(
    small_disk, tmp_path, leaving
):
    run = small_disk / "run"
    create(run, small_plan())
    with pytest.raises(StorageError, match="All that was committed before is intact"):
        go_on_until_round(2, run, then=lambda: _fill(small_disk, leaving))
        go_on(run)
    with pytest.raises(HospitiumError):  # still full
        go_on(run)
    (small_disk / "filler").unlink()
    assert go_on(run)[1] == _unbroken(tmp_path / "unbroken")


def test_a_run_cannot_begin_on_a_full_disk_and_can_when_there_is_room(small_disk):
    _fill(small_disk, 0)
    with pytest.raises(StorageError, match="disk is full"):
        create(small_disk / "run", small_plan())
    (small_disk / "filler").unlink()
    create(small_disk / "run", small_plan())


def test_a_read_only_disk_is_said_to_be_and_nothing_is_lost(small_disk, tmp_path):
    home = Home(small_disk)
    run = home.new_run("r")
    create(run, small_plan())
    go_on_until_round(3, run)
    assert _mount("-o", "remount,ro", str(small_disk))
    for work in (lambda: go_on(run), lambda: home.new_run("b"), lambda: locked(run).__enter__()):
        with pytest.raises(StorageError, match="cannot be written"):
            work()
    assert _mount("-o", "remount,rw", str(small_disk))
    assert go_on(run)[1] == _unbroken(tmp_path / "unbroken")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
@pytest.mark.parametrize("limit", [8192, 40_000, 70_000])
def test_a_limit_on_the_size_of_files_stops_a_run_in_plain_words(tmp_path, limit):
    create(tmp_path / "run", small_plan(rounds=12))
    code = (
        "import sys; from pathlib import Path; from runs import go_on\n"
        "from hospitium.errors import StorageError\n"
        "try: go_on(Path(sys.argv[1]))\n"
        "except StorageError as error: print(error); sys.exit(9)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "scenarios")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, "intact" in child.stdout) == (9, True), child.stderr
    create(tmp_path / "unbroken", small_plan(rounds=12))
    assert go_on(tmp_path / "run")[1] == go_on(tmp_path / "unbroken")[1]
