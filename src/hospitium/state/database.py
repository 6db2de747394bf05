"""SQLite as we use it: write-ahead log, full sync, one writer, versions, and plain errors."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from hospitium.errors import CorruptedError, StateConflictError, VersionError
from hospitium.state import durable

PATIENCE_S = 10.0
"""How long it is waited for another process that writes."""


class Database:
    """One SQLite file, brought to this version's schema when it is opened.

    Args:
        path: The file; made if it is not there.
        schema: Folder of this package with the scripts that lead to this version.
    """

    def __init__(self, path: Path, *, schema: str = "migrations") -> None:
        self.path = path
        self._schema = schema
        with database_errors(self.path):
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * PATIENCE_S)}")
            self._write_ahead()
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        self._check()
        self._migrate()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._connection.close()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with database_errors(self.path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self, name: str) -> Iterator[Transaction]:
        """Do all that is inside or nothing; a write point stands before and after the commit."""
        with database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(self._connection)
                durable.write_point(f"before commit: {name}")
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        durable.write_point(f"after commit: {name}")

    def _write_ahead(self) -> None:
        """Turn the write-ahead log on; SQLite itself does not wait for another who closes it."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def _check(self) -> None:
        with database_errors(self.path):
            found = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise _damaged(self.path, found)

    def _migrate(self) -> None:
        """Apply the migrations that this file has not seen, each in one transaction."""
        with database_errors(self.path):
            found = self._version()
        scripts = migrations(self._schema)
        if found > len(scripts):
            raise VersionError(
                f"{self.path}: ledger version {found} found, this Hospitium reads up to "
                f"{len(scripts)}. Nothing was changed. Use the newer version of Hospitium."
            )
        for version, script in enumerate(scripts[found:], start=found + 1):
            with database_errors(self.path):
                self._connection.execute("BEGIN IMMEDIATE")
                if self._version() < version:  # another process may have been quicker
                    self._apply(f"{script}\nPRAGMA user_version = {version};")
                self._connection.execute("COMMIT")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _apply(self, script: str) -> None:
        """Run a script statement by statement: `executescript` would commit what is open."""
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._connection.execute(statement)
                statement = ""


class Transaction:
    """What may be done inside of one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def number(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Return the one number that a query gives, as it is inside of this transaction."""
        return int(self.rows(sql, values)[0][0])

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query, as they are inside of this transaction."""
        return self._connection.execute(sql, values).fetchall()

    def change_one(self, sql: str, values: Sequence[Any], *, what: str) -> None:
        """Compare and set: exactly one row must match, or nothing is changed.

        Raises:
            StateConflictError: The row is not in the state that was expected.
        """
        if self.execute(sql, values) != 1:
            raise StateConflictError(
                f"{what} is not possible in the state that the ledger is in: another process went "
                "on with this run, or it is done. Nothing was changed. Look at it with "
                "`hospitium run show`."
            )


@contextmanager
def exclusive(path: Path, *, wait_s: float, busy: Exception) -> Iterator[None]:
    """Hold a lock over all processes; the system gives it back even after ``kill -9``.

    It is an exclusive SQLite transaction, which works alike on Linux and Windows.

    Args:
        path: File of the lock.
        wait_s: How long it is waited for.
        busy: What is raised where another process holds it longer.
    """
    with database_errors(path):
        connection = sqlite3.connect(path, timeout=wait_s, isolation_level=None)
    try:
        try:
            with database_errors(path):
                connection.execute("BEGIN EXCLUSIVE")
        except StateConflictError as error:
            raise busy from error
        yield
    finally:
        connection.close()


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a file into our errors."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _storage_error(path, error) from error
    except sqlite3.IntegrityError as error:
        raise StateConflictError(
            f"{path.parent.name}: {error}. Nothing was changed. Look at the run with "
            "`hospitium run show`; another process may have gone on with it."
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise durable.storage_error(path, error) from error


def migrations(schema: str = "migrations") -> list[str]:
    """Return the scripts that lead from an empty file to this version, in order."""
    folder = resources.files("hospitium.state") / schema
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=str)
    return [item.read_text(encoding="utf-8") for item in found]


def _storage_error(path: Path, error: sqlite3.OperationalError) -> Exception:
    """Say which kind of refusal it was."""
    text = str(error)
    for words, number in (
        ("disk is full", errno.ENOSPC),
        ("readonly", errno.EROFS),
        ("unable to open", errno.EACCES),
    ):
        if words in text:
            return durable.storage_error(path, OSError(number, text))
    if "locked" in text:
        return StateConflictError(
            f"{path}: another process keeps the ledger locked. Nothing was changed. Wait for it, "
            "or stop it, then resume the run."
        )
    return durable.storage_error(path, OSError(text))


def _damaged(path: Path, found: str) -> CorruptedError:
    return CorruptedError(
        f"{path}: the ledger is damaged ({found}). It was left as it is. "
        "Restore the run's folder from a backup, then resume."
    )
