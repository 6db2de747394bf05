"""Real processes of the command line, started, watched, and stopped in every way there is."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tiny import HOSPITIUM, environment

from hospitium.operations.running import open_ledger

PATIENCE_S = 120.0


class Command:
    """One running command, in a process group of its own, its words in files."""

    def __init__(self, *words: object, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.err_path = home.parent / "stderr.txt"
        with self.err_path.open("wb") as err, (home.parent / "stdout.txt").open("wb") as out:
            self.process = subprocess.Popen(
                [HOSPITIUM, *map(str, words)],
                env=environment(home),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.seen: set[int] = set()

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so, or the command has ended."""
        until = time.monotonic() + PATIENCE_S
        while not is_so() and self.process.poll() is None:
            assert time.monotonic() < until, f"it did not happen in time:\n{self.err}"
            time.sleep(0.005)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def group(self) -> set[int]:
        """Return the processes of this command that are there, its workers included."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.add(int(folder.name))
        return found

    def kill_9(self) -> None:
        """End the coordinator as a power cut would; its workers must go by themselves."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.wait()
        self.wait_for_the_last()

    def wait_for_the_last(self) -> None:
        """Wait until no process of this command is there; the last ones see its end themselves."""
        until = time.monotonic() + 30
        while self.group():
            assert time.monotonic() < until, f"left behind: {self.group()}"
            time.sleep(0.02)


def only_run(home: Path) -> Path:
    """Return the folder of the only run in a home, once its first entry is there."""
    (path,) = home.glob("runs/*/ledger.sqlite")
    return path.parent


def closed_rounds(home: Path) -> int:
    """Count the closed rounds of the only run and its baselines, without disturbing them."""
    total = 0
    for path in home.glob("runs/**/ledger.sqlite"):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as found:
                sql = "SELECT count(*) FROM rounds WHERE status = 'closed'"
                total += found.execute(sql).fetchone()[0]
        except sqlite3.OperationalError:  # not there yet, or just being made
            continue
    return total


def outcome(home: Path) -> dict[str, Any]:
    """Return all that a run and its baselines came to, but for the run's own name."""
    found = {}
    folder = only_run(home)
    for path in sorted(folder.rglob("ledger.sqlite")):
        ledger = open_ledger(path.parent)
        record = ledger.record()
        ledger.close()
        record["run"].pop("run_id")
        found[str(path.parent.relative_to(folder))] = record
    return found
