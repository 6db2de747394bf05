import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from runs import create, small_plan

from hospitium.errors import RunBusyError, StateConflictError, UnknownRunError, UsageError
from hospitium.state.home import Home, locked

HOLD = """
import sys, time
from pathlib import Path
from hospitium.state.home import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "x" * 65, "ü", "a\n"])
def test_a_name_that_no_folder_should_have_is_refused(tmp_path, name):
    home = Home(tmp_path)
    with pytest.raises(UsageError, match="cannot name a run"):
        home.new_run(name)
    with pytest.raises(UnknownRunError):
        home.run(name)
    assert list(tmp_path.iterdir()) == []


def test_runs_are_found_by_their_ledger_and_listed_in_order(tmp_path):
    home = Home(tmp_path)
    for name in ("b", "a"):
        create(home.new_run(name), small_plan())
    home.new_run("never-begun")
    assert home.runs() == ["a", "b"]
    assert home.run("b") == tmp_path / "runs" / "b"
    with pytest.raises(UnknownRunError, match="Runs here: a, b"):
        home.run("never-begun")


def test_the_name_of_a_run_is_not_given_away_twice(tmp_path):
    home = Home(tmp_path)
    create(home.new_run("a"), small_plan())
    with pytest.raises(StateConflictError, match="run resume a"):
        home.new_run("a")


def test_a_home_without_a_run_says_so(tmp_path):
    with pytest.raises(UnknownRunError, match="none yet"):
        Home(tmp_path / "nowhere").run("a")
    assert not (tmp_path / "nowhere").exists()


def test_the_home_is_named_by_the_environment_or_in_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSPITIUM_HOME", str(tmp_path))
    assert Home.default().folder == tmp_path
    monkeypatch.setenv("HOSPITIUM_HOME", "")
    assert Home.default().folder == Path.home() / ".hospitium"


def test_a_run_that_is_worked_on_is_busy(tmp_path):
    error = pytest.raises(RunBusyError, match="another process")
    with locked(tmp_path), error, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_lock_is_free_again_when_its_holder_was_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunBusyError), locked(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        pass


def test_a_lock_is_free_again_when_its_holder_failed(tmp_path):
    with pytest.raises(ValueError, match="work"), locked(tmp_path):
        raise ValueError("work")
    with locked(tmp_path):
        pass


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_home_is_made_for_its_owner_alone_and_one_that_exists_is_left_as_it_is(tmp_path):
    Home(tmp_path / "deep" / "new").new_run("a")
    assert stat.S_IMODE((tmp_path / "deep" / "new").stat().st_mode) == 0o700
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o755)
    Home(tmp_path / "old").new_run("a")
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o755
