"""The engine whose sites are away now and then."""

from __future__ import annotations

import numpy as np

from hospitium.testing.absences import Absences
from hospitium.types import LeftOut, Task, Update


class Everybody:
    """An engine that answers for whoever it is asked for."""

    def __init__(self):
        self.asked: list[list[str]] = []
        self.is_closed = False

    def select(self, *, round_number):
        return ["a", "b", "c"]

    def ask(self, task, site_ids, *, deadline_s):
        self.asked.append(list(site_ids))
        for site_id in site_ids:
            yield Update(
                run_id=task.run_id,
                round_number=task.round_number,
                site_id=site_id,
                plan_digest="",
                base_digest="",
                num_cases=1,
                delta={},
            )

    def gone(self, site_ids):
        return [LeftOut(site_id="c", reason="revoked")]

    def close(self):
        self.is_closed = True


def task(number: int) -> Task:
    return Task(
        run_id="r",
        round_number=number,
        plan_digest="",
        params={"w": np.zeros(1, np.float32)},
        base_digest="",
        max_norm=1.0,
    )


def test_whoever_is_away_is_silent_and_is_not_asked_and_all_are_answered_for_once():
    inner = Everybody()
    engine = Absences(inner, lambda site_id, number: site_id == "b" and number == 2)
    assert engine.select(round_number=2) == ["a", "b", "c"]
    for number, away in ((1, []), (2, ["b"]), (3, [])):
        answers = list(engine.ask(task(number), ["a", "b", "c"], deadline_s=1))
        assert sorted(answer.site_id for answer in answers) == ["a", "b", "c"]
        left = [answer for answer in answers if isinstance(answer, LeftOut)]
        assert left == [LeftOut(site_id=site_id, reason="deadline") for site_id in away]
    assert engine.gone(["a", "b", "c"]) == [LeftOut(site_id="c", reason="revoked")]
    assert inner.asked == [["a", "b", "c"], ["a", "c"], ["a", "b", "c"]]
    engine.close()
    assert inner.is_closed
