"""The coordinator's log of a run: in step with its state, whatever happens, and never changed."""

import json
import os
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from runs import create, go_on, seats, sites_by_name, small_plan

from hospitium import algorithms
from hospitium.errors import StateConflictError
from hospitium.state import durable
from hospitium.state.database import migrations
from hospitium.state.ledger import RunLedger
from hospitium.state.run_log import KINDS, RunLog, log_append
from hospitium.testing.fakes import first_params
from hospitium.types import LeftOut, Seat
from hospitium.wire.canonical import canonical_json
from hospitium.wire.merkle import MerkleTree, leaf_hash

SITES = ["site-1", "site-2", "site-3"]


def leaves_of(folder):
    ledger = RunLedger(folder)
    try:
        return ledger.log.leaves()
    finally:
        ledger.close()


def replayed(leaves):
    """Return what the log says the state is, by nothing but its entries."""
    rounds, status, run = {}, {}, "none"
    for leaf in leaves:
        kind, number, site_id = leaf["kind"], leaf.get("round_number"), leaf.get("site_id")
        if kind == "run_begun":
            run = "running"
        elif kind in ("round_opened", "seats_added"):
            rounds.setdefault(number, "open")
            status |= {(number, name): ("asked", None) for name in leaf["sites"]}
        elif kind == "received":
            status[number, site_id] = ("accepted", leaf["digest"])
        elif kind in ("left_out", "struck"):
            status[number, site_id] = ("left_out", leaf["reason"])
        elif kind == "asked_again":
            status[number, site_id] = ("asked", None)
        elif kind == "below_quorum":
            status |= {(number, name): ("asked", None) for name in leaf["left_out"]}
        elif kind == "round_closed":
            rounds[number] = leaf["params_digest"]
            found = {n: s for (r, n), (s, _) in status.items() if r == number}
            assert leaf["answered"] == sorted(n for n in found if found[n] == "accepted")
            assert leaf["left_out"] == sorted(n for n in found if found[n] == "left_out")
        elif kind == "finished":
            run = "finished"
    return run, rounds, status


def state_of(ledger):
    """Return the same of the tables."""
    record = ledger.record()
    rounds = {row["round_number"]: row["params_digest"] or "open" for row in record["rounds"]}
    kept = {"accepted": "digest", "left_out": "reason", "asked": "digest"}
    status = {
        (row["round_number"], row["site_id"]): (row["status"], row[kept[row["status"]]])
        for row in record["seats"]
    }
    return record["run"]["status"], rounds, status


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    create(folder, small_plan(rounds=2))
    points = []
    durable.on_write_point = points.append
    go_on(folder)
    durable.on_write_point = None
    return leaves_of(folder), [i for i, name in enumerate(points) if "commit" in name]


def test_every_transition_of_a_run_is_in_its_log(unbroken):
    kinds = [leaf["kind"] for leaf in unbroken[0]]
    one_round = ["round_opened", "received", "received", "received", "round_closed"]
    assert kinds == ["run_begun", *one_round, *one_round, "finished"]
    begun, closed = unbroken[0][0], unbroken[0][5]
    assert begun["seats"] == [{"site_id": s.site_id, "num_cases": s.num_cases} for s in seats()]
    assert (closed["answered"], closed["left_out"]) == (SITES, [])


def test_a_run_killed_at_any_commit_has_the_log_of_an_unbroken_one(unbroken, tmp_path):
    leaves, points = unbroken
    for index in points:
        folder = tmp_path / str(index)
        create(folder, small_plan(rounds=2))
        _die_at(index, folder)
        ledger = RunLedger(folder)
        assert replayed(ledger.log.leaves()) == state_of(ledger)
        ledger.close()
        go_on(folder)
        assert leaves_of(folder) == leaves, index


def test_what_is_rolled_back_is_in_no_log(tmp_path):
    create(tmp_path, small_plan())
    ledger = RunLedger(tmp_path)
    before = ledger.log.leaves()
    with suppress(RuntimeError), ledger._database.transaction("x") as change:
        assert log_append(change, "struck", round_number=1, site_id="a", reason="b") == 1
        raise RuntimeError
    assert ledger.log.leaves() == before and ledger.log.size == 1
    ledger.close()


@pytest.mark.parametrize("kind", ["struck", "of no kind"])
def test_an_entry_is_of_the_list_and_holds_no_float(tmp_path, kind):
    create(tmp_path, small_plan())
    ledger = RunLedger(tmp_path)
    with pytest.raises(AssertionError), ledger._database.transaction("x") as change:
        log_append(change, kind, score=[{"x": 0.5}] if kind in KINDS else 1)
    ledger.close()


FORBIDDEN = {
    "change an entry": "UPDATE log SET leaf = '{}' WHERE n = 1",
    "take one out": "DELETE FROM log WHERE n = 1",
    "take out the last": "DELETE FROM log WHERE n = (SELECT max(n) FROM log)",
    "put one in between": "INSERT OR REPLACE INTO log VALUES (1, '{}')",
    "leave a gap": "INSERT INTO log VALUES (99, '{}')",
    "take out the run": "DELETE FROM run",
    "take out a round": "DELETE FROM rounds",
    "take out a seat": "DELETE FROM seats",
    "take out a refusal": "DELETE FROM refusals",
    "reopen a round": "UPDATE rounds SET status = 'open' WHERE round_number = 1",
    "ask again in a closed round": "UPDATE seats SET status = 'asked' WHERE status = 'left_out'",
    "count another number": "UPDATE seats SET num_cases = 1000",
    "seat another": "INSERT INTO seats (round_number, site_id, status) VALUES (1, 'x', 'asked')",
    "go on after the end": "INSERT INTO rounds (round_number, status, base_digest, max_norm, "
    "opened_utc) VALUES (9, 'open', '', 1.0, '')",
    "choose another result": "UPDATE run SET chosen = '{}'",
    "change the plan": "UPDATE run SET plan_digest = 'x'",
    "take out a conflict": "DELETE FROM conflicts",
}


@pytest.mark.parametrize("sql", FORBIDDEN.values(), ids=FORBIDDEN)
def test_whoever_writes_to_the_file_cannot_rewrite_what_happened(tmp_path, sql):
    create(tmp_path, small_plan(rounds=1))
    sites = sites_by_name()

    go_on(tmp_path, {**sites, "site-3": lambda t: replace(sites["site-3"](t), num_cases=999)})
    ledger = RunLedger(tmp_path)
    ledger.log.conflict(1, "site-1", {"a" * 64: b"one", "b" * 64: b"two"})
    before = ledger.record(), ledger.log.leaves()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(sql)
    connection.close()
    assert (ledger.record(), ledger.log.leaves()) == before
    ledger.close()


def test_a_run_that_is_older_than_its_log_opens_and_says_so(tmp_path):
    create(tmp_path / "new", small_plan())
    go_on(tmp_path / "new")
    record = _record(tmp_path / "new")
    (tmp_path / "old").mkdir()
    old = sqlite3.connect(tmp_path / "old" / "ledger.sqlite")
    for script in migrations()[:4]:
        old.executescript(script)
    old.execute("PRAGMA user_version = 4")
    old.execute("ATTACH ? AS new", (str(tmp_path / "new" / "ledger.sqlite"),))
    for table in ("run", "rounds", "seats", "refusals"):
        old.execute(f"INSERT INTO main.{table} SELECT * FROM new.{table}")
    old.commit()
    old.close()
    shutil.copytree(tmp_path / "new" / "store", tmp_path / "old" / "store")
    assert _record(tmp_path / "old") == record
    ledger = RunLedger(tmp_path / "old")
    (first,) = ledger.log.leaves()
    assert (first["kind"], first["closed_rounds"], first["run_id"]) == ("log_begun", 4, "r")
    data = ledger.log.entry(0)
    assert canonical_json(json.loads(data)) == data
    ledger.close()


def test_the_tree_goes_on_with_the_entries(tmp_path):
    create(tmp_path, small_plan())
    ledger = RunLedger(tmp_path)
    log, expected = ledger.log, MerkleTree()
    for _, data in log.entries():
        expected.append(leaf_hash(data))
    assert log.tree().root() == expected.root()
    for number in range(5):
        ledger.seated(Seat(site_id=f"new-{number}", num_cases=3), from_round=1)
        expected.append(leaf_hash(log.entry(log.size - 1)))
        assert log.tree().root() == expected.root() and log.tree().size == log.size
    assert RunLog(ledger._database).tree().root() == expected.root()
    ledger.close()


def test_what_is_asked_is_an_entry_once_unless_something_else_was_asked_meanwhile(tmp_path):
    create(tmp_path, small_plan())
    ledger = RunLedger(tmp_path)
    one = {"round_number": 1, "base_digest": "a", "sites": ["x", "y"]}
    other = {**one, "sites": ["x"]}
    numbers = [ledger.log.asked(what) for what in (one, one, other, other, one)]
    assert numbers == [1, 1, 2, 2, 3]
    ledger.close()


def test_both_statements_of_a_conflict_are_kept_and_logged_once(tmp_path):
    create(tmp_path, small_plan())
    ledger = RunLedger(tmp_path)
    both = {"a" * 64: b"one", "b" * 64: b"two"}
    assert ledger.log.conflict(1, "x", both) and not ledger.log.conflict(1, "x", both)
    ((_, leaf),) = ledger.log.of("conflict")
    assert leaf["statements"] == list(both)
    rows = ledger.rows("SELECT sha256, statement FROM conflicts ORDER BY 1")
    assert {row["sha256"]: row["statement"] for row in rows} == both
    ledger.close()


class Schedules(RuleBasedStateMachine):
    """Whatever is done to a ledger, in whatever order: its log says what its tables say."""

    site_ids = st.sampled_from(SITES)

    @initialize()
    def begin(self):
        shared = Path("/dev/shm")
        self.place = TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None)
        self.folder = Path(self.place.name)
        create(self.folder, small_plan(rounds=50))
        self.ledger = RunLedger(self.folder)
        self.algorithm = algorithms.build(
            self.ledger.plan, run_id="r", seats=seats(), first_params=first_params
        )
        self.state, self.size = self.algorithm.init(), 0
        self.opened()

    def task(self):
        number = self.ledger.last_closed + 1
        return self.algorithm.task(self.state, round_number=number)

    @rule(names=st.sets(site_ids, min_size=1))
    def opened(self, names=frozenset(SITES)):
        self.ledger.opened(self.task(), sorted(names))

    @rule(site_id=site_ids)
    def received(self, site_id):
        with suppress(StateConflictError):
            self.ledger.received(sites_by_name()[site_id](self.task()))

    @rule(site_id=site_ids, reason=st.sampled_from(["norm", "late"]))
    def refused(self, site_id, reason):
        self.ledger.refused(self.task(), LeftOut(site_id=site_id, reason=reason))

    @rule(site_id=site_ids)
    def left_out(self, site_id):
        self.ledger.left_out(self.task(), LeftOut(site_id=site_id, reason="deadline"))

    @rule(site_id=site_ids)
    def struck(self, site_id):
        self.ledger.struck(self.task(), [LeftOut(site_id=site_id, reason="withdrew")])

    @rule()
    def below_quorum(self):
        self.opened()
        self.ledger.below_quorum(self.task())

    @rule()
    def torn(self):
        rows = self.ledger.rows(
            "SELECT digest FROM seats WHERE status = 'accepted' AND round_number = "
            "(SELECT max(round_number) FROM seats) AND digest NOT IN "
            "(SELECT params_digest FROM rounds WHERE params_digest IS NOT NULL)"
        )  # with one site and first params of zero, params may be the same file as an update
        for row in rows[-1:]:
            path = self.ledger.store.path(row["digest"])
            if path.is_file():
                path.write_bytes(b"torn")
        self.opened()

    @rule()
    def closed(self):
        self.opened()
        task, aggregate = self.task(), self.algorithm.aggregate(self.task())
        for update in self.ledger.answered(task):
            aggregate.add(update)
        if aggregate.num_sites:
            result = aggregate.result()
            self.state = self.algorithm.step(self.state, result)
            self.ledger.closed(task, self.state, result)
            self.opened()

    @rule()
    def begun_again(self):
        self.ledger.close()
        self.ledger = RunLedger(self.folder)
        found = self.ledger.resume()
        if found is not None:
            for name, array in found[0].params.items():
                np.testing.assert_array_equal(array, self.state.params[name])

    @invariant()
    def the_log_says_what_the_tables_say(self):
        if hasattr(self, "ledger"):
            assert replayed(self.ledger.log.leaves()) == state_of(self.ledger)
            assert self.ledger.log.size >= self.size
            self.size = self.ledger.log.size

    def teardown(self):
        self.ledger.close()
        self.place.cleanup()


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _record(folder):
    ledger = RunLedger(folder)
    try:
        return ledger.record()
    finally:
        ledger.close()


def _die_at(index, folder):
    """Run in a child that is gone at the write point of this number."""
    child = os.fork()
    if child == 0:
        seen = iter(range(1 << 30))
        durable.on_write_point = lambda _: os._exit(137) if next(seen) == index else None
        try:
            go_on(folder)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137
