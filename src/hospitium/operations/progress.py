"""What a run says while it works: events as plain data, for a terminal, a log, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from hospitium.evaluation.score_sums import curve_metrics
from hospitium.operations.scores import score_part
from hospitium.plan import Plan
from hospitium.types import Answer, LeftOut, Result, Task

Event: TypeAlias = Mapping[str, Any]
"""``kind`` is ``stage`` (text), ``count`` (text, done, of), ``round`` or ``left_out``."""

Say: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """Say nothing."""


class RunProgress:
    """Turns what the round loop tells into events of one run, named for people by ``label``."""

    def __init__(self, say: Say, *, label: str) -> None:
        self._say = say
        self._label = label
        self._num_answers = 0

    def round_opened(self, plan: Plan, task: Task, site_ids: Sequence[str]) -> None:
        """A round was opened."""
        self._num_answers = 0

    def answer(self, task: Task, answer: Answer) -> None:
        """A site was answered for."""
        if isinstance(answer, LeftOut):
            self._say(
                {
                    "kind": "left_out",
                    "run": self._label,
                    "round": task.round_number,
                    "site_id": answer.site_id,
                    "reason": answer.reason,
                }
            )
        else:
            self._num_answers += 1

    def round_closed(self, plan: Plan, task: Task, result: Result) -> None:
        """A round was closed: say how good the params were that it began with, if it was measured.

        ``auroc`` is None in a round in which the plan asks for no scores.
        """
        sums = score_part(result.sums)
        self._say(
            {
                "kind": "round",
                "run": self._label,
                "round": task.round_number,
                "of": plan.rounds.count,
                "num_sites": result.num_sites,
                "auroc": curve_metrics(sums)["auroc"] if sums else None,
            }
        )
