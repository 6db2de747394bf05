"""The home folder: where runs live, and the lock that lets one process at a time work on a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hospitium.errors import (
    RunBusyError,
    StateConflictError,
    StorageError,
    UnknownRunError,
    UsageError,
)
from hospitium.state import durable
from hospitium.state.database import exclusive

LOCK_S = 0.2
"""How long one waits for the lock of a run before somebody else is taken to work on it."""

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Home:
    """One folder with the runs of this installation and all that belongs to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> Home:
        """Return the home named by ``HOSPITIUM_HOME``, or ``~/.hospitium``."""
        named = os.environ.get("HOSPITIUM_HOME")
        return cls(Path(named) if named else Path.home() / ".hospitium")

    def new_run(self, run_id: str) -> Path:
        """Make and return the folder for a run of this name.

        Raises:
            UsageError: The name is not one that a folder may have.
            StateConflictError: There is a run of this name. Nothing of it was touched.
            StorageError: The folder cannot be made.
        """
        folder = self.free_run(run_id)
        self.make()
        return durable.make_folder(folder)

    def make(self) -> Path:
        """Make this folder, open to its owner alone: keys are in it; one that exists is left so."""
        return durable.make_folder(self.folder, mode=0o700)

    def free_run(self, run_id: str) -> Path:
        """Return where a run of this name would live; nothing is made.

        Raises:
            UsageError: The name is not one that a folder may have.
            StateConflictError: There is a run of this name. Nothing of it was touched.
        """
        if not RUN_ID.fullmatch(run_id):
            raise UsageError(
                f"{run_id!r} cannot name a run: expected 1 to 64 letters, digits, dots, dashes or "
                "underscores. Nothing was started."
            )
        folder = self.folder / "runs" / run_id
        if (folder / "ledger.sqlite").exists():
            raise StateConflictError(
                f"{run_id}: there is a run of this name already. Nothing was changed. "
                f"Go on with it by `hospitium run resume {run_id}`, or choose another name."
            )
        return folder

    def run(self, run_id: str) -> Path:
        """Return the folder of an existing run.

        Raises:
            UnknownRunError: There is none; those there are, are listed.
        """
        folder = self.folder / "runs" / run_id
        if not RUN_ID.fullmatch(run_id) or not (folder / "ledger.sqlite").is_file():
            known = ", ".join(self.runs()) or "none yet"
            raise UnknownRunError(
                f"There is no run {run_id!r} in {self.folder}. Nothing was done. "
                f"Runs here: {known}. Another home folder is named with --home."
            )
        return folder

    def runs(self) -> list[str]:
        """Return the names of all runs, sorted."""
        folder = self.folder / "runs"
        return sorted(path.parent.name for path in folder.glob("*/ledger.sqlite"))


def is_locked(folder: Path) -> bool:
    """Whether a process is working on a run at this moment; a folder that cannot tell says no."""
    if not (folder / "lock.sqlite").is_file():
        return False
    try:
        with locked(folder):
            return False
    except RunBusyError:
        return True
    except StorageError:
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run; the system gives it back even after ``kill -9``.

    Raises:
        RunBusyError: Another process holds it.
        StorageError: The folder cannot be written.
    """
    with durable.storage_errors(folder):
        durable.make_folder(folder)
    busy = RunBusyError(
        f"{folder.name}: another process is working on this run. Nothing was changed. "
        "Watch it with `hospitium run watch`, or stop it before you resume."
    )
    with exclusive(folder / "lock.sqlite", wait_s=LOCK_S, busy=busy):
        yield
