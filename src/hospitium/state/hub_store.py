"""What is on its way between a coordinator and its sites, in SQLite: open tasks and their answers.

One answer for each site and task: the first one stays, the same again changes nothing, another one
is a conflict and is kept as evidence. Words about an error are no answer in this sense: they give
way as soon as the task is asked again or an update comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hospitium.errors import StateConflictError
from hospitium.state import durable
from hospitium.state.database import Database, Transaction

MAX_CONFLICTS = 64
"""For each site; what comes after them is refused without being kept."""


@dataclass(frozen=True, kw_only=True)
class OpenTask:
    """A task that waits for one site's answer.

    Attributes:
        run_id: The run that asks.
        site_id: Whom it asks.
        nonce: What an answer must name.
        envelope: What the site fetches: the task, signed by the coordinator.
        blob: SHA-256 of the params file that goes with it.
        upload_bytes: The largest file that an answer may bring.
        n: The task's number in the order in which tasks were put; 0 before it was.
    """

    run_id: str
    site_id: str
    nonce: str
    envelope: bytes
    blob: str
    upload_bytes: int
    n: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredAnswer:
    """What a site answered; ``found`` is the SHA-256 of the file that it sent, "" for none."""

    run_id: str
    site_id: str
    nonce: str
    kind: Literal["update", "error"]
    statement: bytes
    sha256: str
    found: str
    n: int = 0


class HubStore:
    """The hub's database. Every change is one durable transaction; threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(
            durable.make_folder(folder) / "hub.sqlite", schema="hub_migrations"
        )
        self._lock = threading.RLock()
        try:
            self._begin_numbers()
        except BaseException:
            self.close()
            raise
        self._file = _file_at(self._database.path)

    def close(self) -> None:
        """Close the database; safe to call twice."""
        with self._lock:
            self._database.close()

    def is_there(self) -> bool:
        """Whether its file is where it was opened; it was lost where none is, or another one."""
        return _file_at(self._database.path) == self._file

    def put_tasks(self, tasks: Sequence[OpenTask]) -> None:
        """Put tasks; one that is there already, or was, is put anew, without its old error."""
        with self._lock, self._database.transaction("put tasks") as change:
            for task in tasks:
                place = (task.site_id, task.nonce)
                change.execute("DELETE FROM tasks WHERE site_id = ? AND nonce = ?", place)
                change.execute(
                    "DELETE FROM answers WHERE site_id = ? AND nonce = ? AND kind = 'error'", place
                )
                change.execute(
                    "INSERT INTO tasks (run_id, site_id, nonce, envelope, blob, upload_bytes) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (task.run_id, *place, task.envelope, task.blob, task.upload_bytes),
                )

    def tasks(self, site_id: str, *, after: int = 0) -> list[OpenTask]:
        """Return a site's open tasks that it has not answered, in order, from a number on.

        A number that was never given (the store was lost meanwhile) counts as none.
        """
        rows = self._rows(
            "SELECT * FROM tasks WHERE site_id = ?1 AND NOT EXISTS (SELECT 1 FROM answers WHERE "
            "answers.site_id = ?1 AND answers.nonce = tasks.nonce) AND (n > ?2 OR ?2 > "
            "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'tasks')) ORDER BY n",
            (site_id, after),
        )
        return [OpenTask(**row) for row in rows]

    def open_task(self, site_id: str, nonce: str) -> OpenTask | None:
        """Return one open task of a site, answered or not."""
        rows = self._rows("SELECT * FROM tasks WHERE site_id = ? AND nonce = ?", (site_id, nonce))
        return OpenTask(**rows[0]) if rows else None

    def names_blob(self, site_id: str, digest: str) -> bool:
        """Whether an open task of this site names this blob."""
        return bool(
            self._rows("SELECT 1 FROM tasks WHERE site_id = ? AND blob = ?", (site_id, digest))
        )

    def upload_bytes(self, site_id: str) -> int:
        """Return the size of the largest file that an open task of this site asks for; 0: none."""
        rows = self._rows(
            "SELECT coalesce(max(upload_bytes), 0) AS most FROM tasks WHERE site_id = ?",
            (site_id,),
        )
        return int(rows[0]["most"])

    def blobs(self) -> set[str]:
        """Return the blobs that open tasks name."""
        return {str(row["blob"]) for row in self._rows("SELECT DISTINCT blob FROM tasks")}

    def files(self) -> set[tuple[str, str]]:
        """Return site and SHA-256 of each file that an answer came with."""
        rows = self._rows("SELECT site_id, found FROM answers WHERE found <> ''")
        return {(str(row["site_id"]), str(row["found"])) for row in rows}

    def withdraw(self, nonce: str, *, site_ids: Collection[str]) -> None:
        """Close a task for these sites: they no longer see it, nor what it named."""
        with self._lock, self._database.transaction("withdraw tasks") as change:
            for site_id in sorted(site_ids):
                change.execute(
                    "DELETE FROM tasks WHERE site_id = ? AND nonce = ?", (site_id, nonce)
                )

    def answer(self, answer: StoredAnswer) -> StoredAnswer:
        """Take an answer, if its place is free; return what is in its place now.

        Raises:
            StateConflictError: Another answer is there. It stays; this one is kept as evidence.
        """
        with self._lock, self._database.transaction("take answer") as change:
            place = (answer.site_id, answer.nonce)
            if answer.kind == "update":
                change.execute(
                    "DELETE FROM answers WHERE site_id = ? AND nonce = ? AND kind = 'error'",
                    place,
                )
            change.execute(
                "INSERT INTO answers (run_id, site_id, nonce, kind, statement, sha256, found) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (site_id, nonce) DO NOTHING",
                (
                    answer.run_id,
                    *place,
                    answer.kind,
                    answer.statement,
                    answer.sha256,
                    answer.found,
                ),
            )
            stored = StoredAnswer(
                **self._rows("SELECT * FROM answers WHERE site_id = ? AND nonce = ?", place)[0]
            )
            if stored.sha256 != answer.sha256:
                _keep_conflict(
                    change, answer.site_id, answer.nonce, answer.sha256, answer.statement
                )
        if stored.sha256 != answer.sha256:
            raise StateConflictError(
                f"{answer.site_id} gave a second, different answer to one task. The first one "
                "stays; both are kept. The coordinator: ask the site what happened."
            )
        return stored

    def stored_answer(self, site_id: str, sha256: str) -> StoredAnswer | None:
        """Return an answer that was taken, by the SHA-256 of its statement."""
        rows = self._rows(
            "SELECT * FROM answers WHERE site_id = ? AND sha256 = ?", (site_id, sha256)
        )
        return StoredAnswer(**rows[0]) if rows else None

    def answers(self, nonce: str, *, after: int = 0) -> list[StoredAnswer]:
        """Return the answers to a task, in the order in which they were taken."""
        rows = self._rows(
            "SELECT * FROM answers WHERE nonce = ? AND n > ? ORDER BY n", (nonce, after)
        )
        return [StoredAnswer(**row) for row in rows]

    def forget(self, run_id: str, *, but: str) -> list[StoredAnswer]:
        """Delete what belongs to a run's other tasks than this one; return those answers."""
        with self._lock:
            rows = self._rows(
                "SELECT * FROM answers WHERE run_id = ? AND nonce <> ?", (run_id, but)
            )
            with self._database.transaction("forget") as change:
                for table in ("answers", "tasks"):
                    change.execute(
                        f"DELETE FROM {table} WHERE run_id = ? AND nonce <> ?",  # noqa: S608
                        (run_id, but),
                    )
        return [StoredAnswer(**row) for row in rows]

    def drop_answer(self, answer: StoredAnswer) -> None:
        """Delete an answer whose file is gone, so that the site is asked for it again."""
        with self._lock, self._database.transaction("drop answer") as change:
            change.execute("DELETE FROM answers WHERE n = ?", (answer.n,))

    def conflict(self, site_id: str, place: str, sha256: str, content: bytes) -> None:
        """Keep a second, different thing that a site sent for a place that is taken."""
        with self._lock, self._database.transaction("keep conflict") as change:
            _keep_conflict(change, site_id, place, sha256, content)

    def conflicts(self, site_id: str) -> list[tuple[str, str]]:
        """Return place and SHA-256 of everything of a site that was refused as a conflict."""
        rows = self._rows(
            "SELECT place, sha256 FROM conflicts WHERE site_id = ? ORDER BY 1, 2", (site_id,)
        )
        return [(str(row["place"]), str(row["sha256"])) for row in rows]

    def conflicting(self, site_id: str, place: str, sha256: str) -> bytes:
        """Return the bytes of something that was refused as a conflict; empty for none."""
        rows = self._rows(
            "SELECT content FROM conflicts WHERE site_id = ? AND place = ? AND sha256 = ?",
            (site_id, place, sha256),
        )
        return bytes(rows[0]["content"]) if rows else b""

    def _begin_numbers(self) -> None:
        """Let a new store begin above every number that one before it, now lost, has given.

        Sites ask for tasks after a number. It begins at the time in microseconds.
        """
        with self._database.transaction("begin numbers") as change:
            for table in ("tasks", "answers"):
                change.execute(
                    "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, ?2 WHERE NOT EXISTS "
                    "(SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
                    (table, time.time_ns() // 1000),
                )

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._database.rows(sql, values)]


def _keep_conflict(
    change: Transaction, site_id: str, place: str, sha256: str, content: bytes
) -> None:
    change.execute(
        "INSERT INTO conflicts (site_id, place, sha256, content) SELECT ?1, ?2, ?3, ?4 WHERE "
        "(SELECT count(*) FROM conflicts WHERE site_id = ?1) < ?5 ON CONFLICT DO NOTHING",
        (site_id, place, sha256, content, MAX_CONFLICTS),
    )


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path: its device and number; None if there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None
