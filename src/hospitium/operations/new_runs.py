"""A run's folder: made for a new run, and taken away again if the run is not begun."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hospitium.errors import StateConflictError
from hospitium.state import durable
from hospitium.state.home import Home, locked
from hospitium.state.ledger import RunLedger


@contextmanager
def new_run(home: Home, run_id: str, *, out: Path | None) -> Iterator[Path]:
    """Make a run's folder, and take it away again if the run is not begun inside of this block.

    Args:
        home: Where runs live.
        run_id: Name of the run.
        out: Where the report is to be; it is made now, so that a disk that refuses says so first.
    """
    folder = home.new_run(run_id)
    with locked(folder):
        if RunLedger.exists(folder):
            raise StateConflictError(
                f"{run_id}: there is a run of this name already. Nothing was changed. "
                f"Go on with it by `hospitium run resume {run_id}`, or choose another name."
            )
        try:
            durable.make_folder(out or folder / "report")
            yield folder
        except BaseException:
            if not RunLedger.exists(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise
