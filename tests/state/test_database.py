import sqlite3
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat

import pytest
from runs import create, go_on, small_plan
from stopping import go_on_until_round

from hospitium.errors import CorruptedError, StateConflictError, StorageError, VersionError
from hospitium.state.database import Database, migrations
from hospitium.state.ledger import RunLedger


def version_of(path):
    connection = sqlite3.connect(path)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return version


def as_version_1(path):
    """Write a ledger again as the first version of Hospitium wrote it, rows included."""
    old = path.with_name("old.sqlite")
    connection = sqlite3.connect(old, isolation_level=None)
    connection.executescript(migrations()[0])
    connection.execute("PRAGMA user_version = 1")
    connection.execute("ATTACH ? AS new", (str(path),))
    for (table,) in connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'"):
        columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
        names = ", ".join(columns)
        connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    connection.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    old.rename(path)


def test_a_new_file_has_the_newest_version(tmp_path):
    Database(tmp_path / "a.sqlite").close()
    assert version_of(tmp_path / "a.sqlite") == len(migrations()) >= 2


def test_a_run_of_version_1_is_brought_to_the_newest_and_ends_as_if_begun_by_it(tmp_path):
    create(tmp_path / "new", small_plan())
    expected = go_on(tmp_path / "new")[1]
    create(tmp_path / "old", small_plan())
    go_on_until_round(3, tmp_path / "old")
    before = _record(tmp_path / "old")
    as_version_1(tmp_path / "old" / "ledger.sqlite")
    assert version_of(tmp_path / "old" / "ledger.sqlite") == 1
    assert _record(tmp_path / "old") == before
    assert version_of(tmp_path / "old" / "ledger.sqlite") == len(migrations())
    assert go_on(tmp_path / "old")[1] == expected


def test_processes_that_migrate_at_the_same_time_do_it_once(tmp_path):
    create(tmp_path, small_plan())
    as_version_1(tmp_path / "ledger.sqlite")
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(Database, [tmp_path / "ledger.sqlite"] * 8))
    for database in opened:
        database.close()
    assert version_of(tmp_path / "ledger.sqlite") == len(migrations())


def test_a_migration_that_another_process_was_quicker_with_is_not_done_twice(tmp_path, monkeypatch):
    create(tmp_path, small_plan())
    stale = chain([1], repeat(len(migrations())))
    monkeypatch.setattr(Database, "_version", lambda self: next(stale))
    Database(tmp_path / "ledger.sqlite").close()
    monkeypatch.undo()
    assert version_of(tmp_path / "ledger.sqlite") == len(migrations())


def test_a_row_that_breaks_a_rule_of_the_schema_is_a_conflict(tmp_path):
    database = Database(tmp_path / "a.sqlite")
    with pytest.raises(StateConflictError, match="NOT NULL"), database.transaction("x") as change:
        change.execute("INSERT INTO interruptions VALUES (NULL, 1)")
    database.close()


def test_a_migration_that_fails_leaves_the_file_at_its_version(tmp_path, monkeypatch):
    create(tmp_path, small_plan())
    broken = [*migrations(), "CREATE TABLE extra (x) STRICT;"]
    monkeypatch.setattr("hospitium.state.database.migrations", lambda schema: broken)
    with pytest.raises(StorageError):
        Database(tmp_path / "ledger.sqlite")
    monkeypatch.undo()
    assert version_of(tmp_path / "ledger.sqlite") == len(migrations())
    assert _record(tmp_path)["run"]["status"] == "running"


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path):
    create(tmp_path, small_plan())
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(VersionError, match=r"version 99 found.*newer version"):
        RunLedger(tmp_path)
    assert version_of(tmp_path / "ledger.sqlite") == 99


@pytest.mark.parametrize("where", ["head", "middle", "page", "cut"])
def test_a_damaged_ledger_is_said_to_be_and_left_as_it_is(tmp_path, where):
    create(tmp_path, small_plan())
    path = tmp_path / "ledger.sqlite"
    whole = path.read_bytes()
    damaged = {
        "head": b"\x00" * 100 + whole[100:],
        "middle": whole[:5000] + b"\xff" * 6000 + whole[11_000:],
        "page": whole[:16_384] + b"\xff" * 8 + whole[16_392:],
        "cut": whole[: len(whole) // 2],
    }[where]
    path.write_bytes(damaged)
    with pytest.raises(CorruptedError, match=r"(?s)ledger.sqlite.*damaged.*backup"):
        RunLedger(tmp_path)
    assert path.read_bytes()[100:] == damaged[100:]


def test_a_transaction_is_all_or_nothing(tmp_path):
    database = Database(tmp_path / "a.sqlite")
    with pytest.raises(StateConflictError), database.transaction("test") as change:
        change.execute("INSERT INTO interruptions VALUES ('now', 1)")
        change.change_one("UPDATE rounds SET score = 1", (), what="Scoring")
    assert database.rows("SELECT * FROM interruptions") == []
    with database.transaction("test") as change:
        change.execute("INSERT INTO interruptions VALUES ('now', 1)")
    assert len(database.rows("SELECT * FROM interruptions")) == 1
    database.close()


def test_a_ledger_that_another_process_keeps_locked_is_a_conflict(tmp_path):
    database = Database(tmp_path / "a.sqlite")
    database._connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateConflictError, match="ledger locked"), database.transaction("test"):
        pass
    other.close()
    database.close()


def _record(folder):
    ledger = RunLedger(folder)
    record = ledger.record()
    ledger.close()
    return record
