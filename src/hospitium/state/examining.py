"""Looking at a database of ours without opening it for work: nothing is migrated or written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How far a run is, by its ledger."""

    run_id: str
    is_finished: bool
    last_closed: int


def examine(path: Path) -> str:
    """Return ``ok``, or the first thing that SQLite finds wrong with a file.

    Another process may be working with it.
    """
    try:
        with _opened(path) as connection:
            return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)


def read_run(path: Path) -> RunFacts | None:
    """Return what a ledger says of its run; None where it cannot be read, or holds none."""
    try:
        with _opened(path) as connection:
            run = connection.execute("SELECT run_id, status FROM run").fetchone()
            closed = "SELECT MAX(round_number) FROM rounds WHERE status = 'closed'"
            last = connection.execute(closed).fetchone()[0]
    except sqlite3.Error:
        return None
    if run is None:
        return None
    return RunFacts(run_id=run[0], is_finished=run[1] == "finished", last_closed=last or 0)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    address = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
        yield connection
