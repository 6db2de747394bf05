"""Hypothesis drives the ledger, the member list and the log, each beside a plain model."""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from runs import create, score_of, seats, small_plan
from simulated_federation import NOW

from hospitium.errors import CorruptedError, StateConflictError, TrustError
from hospitium.state.chain import Chain
from hospitium.state.leaf_log import FILE, LeafLog, Signer
from hospitium.state.ledger import RunLedger
from hospitium.types import LeftOut, Result, State, Task, Update
from hospitium.wire import member_changes
from hospitium.wire.blob import digest_of
from hospitium.wire.checkpoints import site_origin
from hospitium.wire.members import Member, sign_members
from hospitium.wire.merkle import MerkleTree, leaf_hash, verify_consistency, verify_inclusion
from hospitium.wire.signing import SigningKey

SITES = [seat.site_id for seat in seats()]
NUM_ROUNDS = 3
QUICK = settings(
    max_examples=8, stateful_step_count=20, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


class Folder(RuleBasedStateMachine):
    """A machine with a folder in memory of its own."""

    def __init__(self):
        super().__init__()
        shared = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class LedgerMachine(Folder):
    """Rounds open, fill, lose seats, close and begin again; the process dies in between."""

    def __init__(self):
        super().__init__()
        create(self.folder, small_plan(rounds=NUM_ROUNDS))
        self.ledger = RunLedger(self.folder, score_of=score_of)
        self.number, self.seats, self.closed = 0, None, {}

    def teardown(self):
        self.ledger.close()
        super().teardown()

    @property
    def task(self):
        params = {"w": np.full(4, self.number, np.float32), "b": np.zeros(1, np.float32)}
        return Task(
            run_id="r", round_number=self.number, plan_digest=self.ledger.plan.digest,
            params=params, base_digest=digest_of(params), max_norm=10.0,
        )  # fmt: skip

    @precondition(lambda self: self.seats is None and self.number < NUM_ROUNDS)
    @rule()
    def open(self):
        self.number += 1
        self.seats = dict.fromkeys(SITES, "asked")
        assert self.ledger.opened(self.task, SITES) == SITES

    @precondition(lambda self: self.seats)
    @rule(site_id=st.sampled_from(SITES), value=st.integers(-5, 5))
    def receive(self, site_id, value):
        task = self.task
        update = Update(
            run_id="r", round_number=self.number, site_id=site_id, plan_digest=task.plan_digest,
            base_digest=task.base_digest, num_cases=3,
            delta={"w": np.full(4, value, np.float32), "b": np.ones(1, np.float32)},
        )  # fmt: skip
        if self.seats[site_id] == "asked":
            self.ledger.received(update)
            self.seats[site_id] = "accepted"
        else:
            with pytest.raises(StateConflictError):
                self.ledger.received(update)

    @precondition(lambda self: self.seats)
    @rule(site_id=st.sampled_from(SITES))
    def leave_out(self, site_id):
        self.ledger.left_out(self.task, LeftOut(site_id=site_id, reason="deadline"))
        if self.seats[site_id] == "asked":
            self.seats[site_id] = "left_out"

    @precondition(lambda self: self.seats)
    @rule(site_id=st.sampled_from(SITES))
    def strike(self, site_id):
        struck = self.ledger.struck(self.task, [LeftOut(site_id=site_id, reason="members")])
        assert bool(struck) == (self.seats[site_id] == "accepted")
        if struck:
            self.seats[site_id] = "left_out"

    @precondition(lambda self: self.seats)
    @rule()
    def begin_again(self):
        without = {one.site_id for one in self.ledger.below_quorum(self.task)}
        assert without == {name for name in SITES if self.seats[name] != "accepted"}
        for name in without:
            self.seats[name] = "asked"

    @precondition(lambda self: self.seats)
    @rule()
    def close(self):
        params = {"w": np.full(4, self.number + 1, np.float32), "b": np.zeros(1, np.float32)}
        accepted = frozenset(name for name in SITES if self.seats[name] == "accepted")
        sums = {"loss": (1, 1)}
        for others in (accepted ^ {SITES[0]}, frozenset(SITES) - accepted):
            result = Result(delta={}, sum_weight=7, site_ids=others, sums=sums)
            with pytest.raises(StateConflictError):
                self.ledger.closed(self.task, State(params=params), result)
        result = Result(delta={}, sum_weight=7, site_ids=accepted, sums=sums)
        self.ledger.closed(self.task, State(params=params), result)
        self.closed[self.number] = {
            name: "accepted" if status == "accepted" else "left_out"
            for name, status in self.seats.items()
        }
        with pytest.raises(StateConflictError):
            self.ledger.closed(self.task, State(params=params), result)
        self.seats = None

    @precondition(lambda self: self.closed)
    @rule()
    def open_a_closed_round(self):
        number, self.number = self.number, min(self.closed)
        try:
            with pytest.raises(StateConflictError):
                self.ledger.opened(self.task, SITES)
        finally:
            self.number = number

    @rule()
    def die_and_resume(self):
        self.ledger.close()
        self.ledger = RunLedger(self.folder, score_of=score_of)
        found = self.ledger.resume()
        assert (found[1] if found else 0) == max(self.closed, default=0)
        if self.seats:
            waiting = [name for name, status in self.seats.items() if status == "asked"]
            assert self.ledger.opened(self.task, SITES) == waiting
            answered = {update.site_id for update in self.ledger.answered(self.task)}
            assert answered == {name for name, status in self.seats.items() if status == "accepted"}

    @invariant()
    def says_what_happened(self):
        expected = {**self.closed, **({self.number: self.seats} if self.seats else {})}
        found = {}
        for row in self.ledger.record()["seats"]:
            found.setdefault(row["round_number"], {})[row["site_id"]] = row["status"]
        assert found == expected
        log = self.ledger.log
        assert [n for n, _ in log.entries()] == list(range(log.size))
        assert len(log.of("round_closed")) == len(self.closed)


def _key(number):
    return SigningKey.from_bytes(number.to_bytes(32, "big"))


OFFICER, STRANGER, COORDINATOR = _key(1), _key(2), _key(3)


class MembersMachine(Folder):
    """An officer signs lists; a reader is handed any of them, in any order, and forged ones."""

    def __init__(self):
        super().__init__()
        first = member_changes.first_list(
            federation="north", officers=[OFFICER.public.hex()], threshold=1,
            coordinator_key=COORDINATOR.public.hex(), min_sites=2, valid_until=NOW,
        )  # fmt: skip
        self.lists, self.keys = [first], 100
        self.reader = Chain(self.folder / "members")
        self.reader.plant(federation="north", officers=first.officers, threshold=1)
        self.epoch = 0

    def _sign(self, members, key=OFFICER):
        return sign_members(members, key)

    @rule(name=st.sampled_from(["bergen", "kiel", "oslo"]))
    def admit(self, name):
        self.keys += 2
        row = Member(
            site_id=name, legal_entity=f"{name} hospital", signing_key=_key(self.keys).public.hex(),
            request_key=_key(self.keys + 1).public.hex(),
        )  # fmt: skip
        self.lists.append(member_changes.admit(self.lists[-1], row, valid_until=NOW))

    @precondition(lambda self: self.lists[-1].sites)
    @rule()
    def revoke(self):
        name = self.lists[-1].sites[0].site_id
        self.lists.append(member_changes.revoke(self.lists[-1], name, valid_until=NOW))

    @rule(data=st.data())
    def hand_over(self, data):
        first = data.draw(st.integers(0, len(self.lists) - 1))
        last = data.draw(st.integers(first, len(self.lists) - 1))
        handed = self.lists[first : last + 1]
        fits = first <= self.epoch <= last + 1 if self.epoch else True
        if self.epoch and last + 1 < self.epoch:
            fits = False
        if self.epoch and first + 1 < self.epoch:
            handed = self.lists[max(first, self.epoch - 1) : last + 1] or handed
        try:
            self.reader.extend([self._sign(one) for one in handed])
        except TrustError:
            assert not fits or not handed
        found = self.reader.current()
        if found is not None:
            assert found.members_epoch >= self.epoch
            self.epoch = found.members_epoch

    @precondition(lambda self: self.epoch)
    @rule()
    def forge(self):
        following = member_changes.replace_officers(
            self.lists[self.epoch - 1], [STRANGER.public.hex()], threshold=1,
            valid_until=NOW + timedelta(days=9),
        )  # fmt: skip
        with pytest.raises(TrustError):
            self.reader.extend([self._sign(following, STRANGER)])

    @precondition(lambda self: self.epoch)
    @rule()
    def fork(self):
        before = self.lists[self.epoch - 1]
        other = member_changes.replace_officers(
            before, before.officers, threshold=1, valid_until=NOW + timedelta(days=self.keys)
        )
        if len(self.lists) > self.epoch:
            Chain(self.folder / "members").extend([self._sign(self.lists[self.epoch])])
            self.epoch += 1
            with pytest.raises(TrustError):
                self.reader.extend([self._sign(other)])

    @invariant()
    def has_a_list_of_the_officer(self):
        found = Chain(self.folder / "members").current()
        if found is None:
            assert self.epoch == 0
            return
        assert found == self.lists[self.epoch - 1]
        assert not set(found.active_keys) & set(found.retired_keys)


class LogMachine(Folder):
    """Entries are added and read, by two readers; the last line is torn now and then."""

    def __init__(self):
        super().__init__()
        self.signer = Signer(origin=site_origin("north", "oslo"), key=lambda: OFFICER)
        self.names = []

    @initialize()
    def begin(self):
        self.logs = [self._open(), self._open()]
        self.roots = {}

    def _open(self):
        return LeafLog(self.folder, signer=self.signer, same=lambda leaf: leaf.get("sha256"))

    @rule(which=st.integers(0, 1), name=st.integers(0, 9))
    def append(self, which, name):
        number = self.logs[which].append({"kind": "update", "sha256": str(name)})
        if str(name) in self.names:
            assert number == self.names.index(str(name))
        else:
            assert number == len(self.names)
            self.names.append(str(name))

    @precondition(lambda self: self.names)
    @rule(rest=st.binary(min_size=1, max_size=40))
    def tear_the_last_line(self, rest):
        with (self.folder / FILE).open("ab") as file:
            file.write(rest.replace(b"\n", b"x"))
        self.logs = [self._open(), self._open()]

    @rule()
    def open_again(self):
        self.logs = [self._open(), self._open()]

    @precondition(lambda self: len(self.names) > 1)
    @rule(data=st.data())
    def change_a_byte(self, data):
        path = self.folder / FILE
        whole = path.read_bytes()
        begin = data.draw(st.integers(0, whole.rfind(b'"signature"')))
        at = whole.rfind(b"\n", 0, begin) + 1  # in what a line says, not in its signature
        at += data.draw(st.integers(0, whole.index(b'"signature"', at) - at - 1))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CorruptedError):
            log = self._open()
            [*log.lines()]
            assert log.size < len(self.names)
            raise CorruptedError("an entry is gone")
        path.write_bytes(whole)

    @invariant()
    def holds_what_was_added(self):
        if not self.names:
            return
        log, tree = self._open(), MerkleTree()
        lines = list(log.lines())
        assert [line.leaf["sha256"] for line in lines] == self.names
        for line in lines:
            tree.append(leaf_hash(line.data))
        assert (log.size, log.root()) == (tree.size, tree.root())
        self.roots[tree.size] = tree.root()
        for size, root in self.roots.items():
            verify_consistency(
                old=size, new=tree.size, old_root=root, new_root=tree.root(),
                proof=tree.consistency_proof(size),
            )  # fmt: skip
        verify_inclusion(
            leaf_hash(lines[-1].data), index=tree.size - 1, size=tree.size, root=tree.root(),
            proof=tree.inclusion_proof(tree.size - 1),
        )  # fmt: skip


TestLedger = LedgerMachine.TestCase
TestMembers = MembersMachine.TestCase
TestLog = LogMachine.TestCase
TestLedger.settings = TestMembers.settings = TestLog.settings = QUICK
