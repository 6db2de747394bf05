"""A site that is revoked or withdraws after its answer contributes nothing to the open round."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from runs import create, go_on, sites_by_name, small_plan

from hospitium.errors import QuorumError
from hospitium.state import durable
from hospitium.testing.fakes import DirectEngine
from hospitium.types import Answer, LeftOut, Task

GONE = LeftOut(site_id="site-3", reason="withdrew from the plan")


@dataclass(kw_only=True)
class Leaving(DirectEngine):
    """An engine whose third site leaves in round 2, after its answer or before it."""

    has_answered: bool
    round_number: int = 0

    def select(self, *, round_number: int) -> Sequence[str]:
        self.round_number = round_number
        return super().select(round_number=round_number)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Iterator[Answer]:
        is_out = task.round_number > 2 or (task.round_number == 2 and not self.has_answered)
        for answer in super().ask(task, site_ids, deadline_s=deadline_s):
            yield GONE if is_out and answer.site_id == GONE.site_id else answer

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        return [GONE] if self.round_number >= 2 else []


def begin(folder, *, quorum=2):
    create(folder, small_plan(rounds=3, quorum=quorum))
    return folder


def run(folder, *, has_answered=True):
    return go_on(folder, engine=Leaving(sites=sites_by_name(), has_answered=has_answered))


def test_what_it_had_sent_is_in_no_bit_of_the_model_and_the_ledger_says_why(tmp_path):
    state, record = run(begin(tmp_path / "after"))
    expected, without = run(begin(tmp_path / "before"), has_answered=False)
    assert record == without
    for name, array in expected.params.items():
        np.testing.assert_array_equal(state.params[name], array, strict=True)
    seats = {(row["round_number"], row["site_id"]): row for row in record["seats"]}
    assert seats[1, "site-3"]["status"] == "accepted"
    assert {seats[number, "site-3"]["reason"] for number in (2, 3)} == {GONE.reason}


def test_killed_at_any_write_point_around_it_it_ends_with_the_same_bits(tmp_path):
    points: list[str] = []
    folder = begin(tmp_path / "unbroken")
    durable.on_write_point = points.append
    _, record = run(folder)
    durable.on_write_point = None
    struck = points.index("before commit: struck")
    for index in range(struck - 2, struck + 8):
        folder = begin(tmp_path / str(index))
        assert _die_at(index, folder) == 137, points[index]
        assert run(folder)[1] == record, points[index]


def test_below_quorum_without_it_no_model_is_made(tmp_path):
    with pytest.raises(QuorumError, match=r"2 of 3 sites.*site-3 \(withdrew from the plan\)"):
        run(begin(tmp_path, quorum=3))


def _die_at(index, folder):
    """Run in a child that is gone at the write point of this number; return its exit status."""
    child = os.fork()
    if child == 0:  # os._exit: nothing is flushed, closed or rolled back
        seen = iter(range(1 << 30))
        durable.on_write_point = lambda _: os._exit(137) if next(seen) == index else None
        try:
            run(folder)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
