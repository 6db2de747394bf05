"""Bugs that are planted, to see that they are found: each binds a name to something wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from faults import CENTRE, Scenario
from standins import Change
from virtual_threads import Module, Time, wall

from hospitium import federation
from hospitium.algorithms import weighted_sum
from hospitium.engines.hub import answers, engine, messages, watching
from hospitium.privacy.exact_sum import WEIGHT_ONE, ExactSum
from hospitium.state import chain, database, hub_store, leaf_log
from hospitium.state.ledger import RunLedger
from hospitium.types import Update
from hospitium.wire import members, signing


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A bug: how it is planted, by which invariants it is found, and which faults it takes."""

    plant: Callable[[], list[Change]]
    found_by: tuple[str, ...]
    needs: Callable[[Scenario], bool] = lambda scenario: True


def _with(*kinds: str, who: str = "", names: tuple[str, ...] = ()) -> Callable[[Scenario], bool]:
    """Return whether a scenario has a fault of one of these kinds."""
    return lambda scenario: any(
        fault.kind in kinds and (not who or fault.who == who) and (not names or fault.name in names)
        for fault in scenario.faults
    )


def double_count() -> list[Change]:
    """What was accepted before a crash is added twice when the run is resumed."""
    real_answered, real_add = RunLedger.answered, weighted_sum.WeightedSum.add

    def answered(self: Any, task: Any) -> Any:
        for update in real_answered(self, task):
            yield update
            yield update

    def add(self: Any, update: Update) -> None:
        self._taken.discard(update.site_id)
        real_add(self, update)

    return [(RunLedger, "answered", answered), (weighted_sum.WeightedSum, "add", add)]


def accept_stale_round() -> list[Change]:
    """Nobody compares the round of an update with the round that is open."""
    real = engine.HubEngine._answer

    def answer(self: Any, task: Any, stored: Any) -> Any:
        found = real(self, task, stored)
        if isinstance(found, Update):
            return replace(found, round_number=task.round_number, base_digest=task.base_digest)
        return found

    return [(engine.HubEngine, "_answer", answer)]


def retrain_on_retry() -> list[Change]:
    """A task that is asked again is trained again."""
    return [(answers.Answers, "find", lambda self, task, **_: None)]


def send_before_fsync() -> list[Change]:
    """A line of the site's log is written, and not synced."""
    return [(leaf_log, "os", Module(os, fsync=lambda descriptor: None))]


class _FloatSum(ExactSum):
    """Adds float32 numbers in the order in which they come."""

    def add(self, delta: Any, *, weight: int) -> None:
        super().add(delta, weight=weight)
        share = np.float32(weight / WEIGHT_ONE)
        before = self.__dict__.setdefault("_floats", {})
        for name, array in delta.items():
            before[name] = before.get(name, np.float32(0)) + array * share

    def mean(self) -> dict[str, Any]:
        total = np.float32(self.sum_weight / WEIGHT_ONE)
        return {name: array / total for name, array in self.__dict__["_floats"].items()}


def float_sum() -> list[Change]:
    """Updates are added as float32 numbers in the order of their arrival."""
    return [(weighted_sum, "ExactSum", _FloatSum)]


def skip_signature() -> list[Change]:
    """Every signature holds."""
    return [(signing.VerifyKey, "verify", lambda self, signature, data: None)]


def partial_add() -> list[Change]:
    """What was added of an update that is refused in the end stays in the sum."""
    real = ExactSum._put

    def put(self: Any, delta: Any, todo: Any, *, share: float, take_out: bool = False) -> float:
        return 0.0 if take_out else real(self, delta, todo, share=share)

    return [(ExactSum, "_put", put)]


def quorum_off_by_one() -> list[Change]:
    """A round is closed with one update less than the plan says."""
    real = federation._require_enough

    def require(plan: Any, *args: Any, **kwargs: Any) -> None:
        fewer = replace(plan, rounds=replace(plan.rounds, quorum=plan.rounds.quorum - 1))
        real(fewer, *args, **kwargs)

    return [(federation, "_require_enough", require)]


def _without_triggers() -> list[Change]:
    """No trigger of a database protects anything."""
    real = database.Database._migrate

    def migrate(self: Any) -> None:
        real(self)
        for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            self._connection.execute(f"DROP TRIGGER {row['name']}")

    return [(database.Database, "_migrate", migrate)]


def terminal_state_overwritten() -> list[Change]:
    """A round is closed whether it is open or not."""

    def change_one(self: Any, sql: str, values: Any, *, what: str) -> None:
        self.execute(sql.replace(" AND status = 'open'", ""), values)

    return [*_without_triggers(), (database.Transaction, "change_one", change_one)]


def receipt_not_verified() -> list[Change]:
    """A site takes whatever comes back for a receipt."""

    def opened(cls: Any, receipt: bytes, **_: Any) -> Any:
        return cls(site_id="", statement="0" * 64, index=0)

    return [(messages.Receipt, "opened", classmethod(opened))]


def closed_round_opened_again() -> list[Change]:
    """A run that is resumed does its last closed round once more."""
    real = RunLedger.resume

    def resume(self: Any) -> Any:
        found = real(self)
        if found is not None:
            with self._database.transaction("again") as change:
                change.execute(
                    "UPDATE rounds SET status = 'open' WHERE round_number = ?", (found[1],)
                )
        return found

    return [*_without_triggers(), (RunLedger, "resume", resume)]


def member_list_rollback() -> list[Change]:
    """A site takes the member list that came last, whatever its epoch."""

    def extend(self: Any, envelopes: Any) -> Any:
        for envelope in envelopes:
            epoch = members.parse_list(envelope).members_epoch
            for path in self._paths():
                if int(path.stem) >= epoch:
                    path.unlink()
            (self._folder / f"{epoch:08d}.dsse").write_bytes(envelope)
        return self.current()

    return [(chain.Chain, "extend", extend)]


def wall_clock_for_deadlines() -> list[Change]:
    """A round's deadline is taken from the clock on the wall."""
    return [(engine, "time", Module(Time, monotonic=wall))]


def second_answer_replaces_first() -> list[Change]:
    """A second, different answer to one task takes the place of the first."""
    real = hub_store.HubStore.answer

    def answer(self: Any, stored: Any) -> Any:
        with self._lock, self._database.transaction("forget the first") as change:
            change.execute(
                "DELETE FROM answers WHERE site_id = ? AND nonce = ?",
                (stored.site_id, stored.nonce),
            )
        return real(self, stored)

    return [(hub_store.HubStore, "answer", answer)]


def split_model_accepted() -> list[Change]:
    """A site does not compare the model that it is given with what the log says all are asked."""
    return [
        (watching.Watch, "_require_asked", lambda self, asking, ask, task: None),
        (watching, "_require_alike", lambda owns, where: None),
    ]


BUGS: Mapping[str, Bug] = {
    "double count": Bug(
        plant=double_count, found_by=("I2",), needs=_with("crash", "power_cut", who=CENTRE)
    ),
    "accept stale round": Bug(
        plant=accept_stale_round, found_by=("I1",),
        needs=_with("lie", names=("stale round", "later round", "wrong base")),
    ),
    "retrain on retry": Bug(plant=retrain_on_retry, found_by=("I3",)),
    "send before fsync": Bug(plant=send_before_fsync, found_by=("I5",)),
    "float sum in arrival order": Bug(plant=float_sum, found_by=("I2",)),
    "skip signature": Bug(
        plant=skip_signature, found_by=("I1",), needs=_with("lie", names=("impersonate",))
    ),
    "partial add then reject": Bug(
        plant=partial_add, found_by=("I2",), needs=_with("lie", names=("nan", "infinity", "huge"))
    ),
    "quorum off by one": Bug(plant=quorum_off_by_one, found_by=("I9",)),
    "terminal state overwritten": Bug(
        plant=terminal_state_overwritten, found_by=("I7",),
        needs=_with("second", names=("not locked",)),
    ),
    "receipt trusted without its signature": Bug(
        plant=receipt_not_verified, found_by=("I3",), needs=_with("corrupt")
    ),
    "resume re-opens a closed round": Bug(
        plant=closed_round_opened_again, found_by=("I7", "I2"),
        needs=_with("crash", "power_cut", who=CENTRE),
    ),
    "member-list rollback": Bug(
        plant=member_list_rollback, found_by=("I6",), needs=_with("old_list")
    ),
    "wall clock for deadlines": Bug(
        plant=wall_clock_for_deadlines, found_by=("I10",), needs=_with("clock", who=CENTRE)
    ),
    "split model accepted": Bug(
        plant=split_model_accepted, found_by=("I2",), needs=_with("split")
    ),
    "a second answer replaces the first": Bug(
        plant=second_answer_replaces_first, found_by=("I3", "I1"),
        needs=_with("lie", names=("second",)),
    ),
}  # fmt: skip
