"""From summed scores to one number that chooses, and to the operating point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hospitium.algorithms.norm_bound import NORM_SUM
from hospitium.evaluation.metrics import youden_of_points
from hospitium.evaluation.score_sums import MAX_LOGIT, NUM_BINS, curve_metrics
from hospitium.plan import Plan
from hospitium.types import Sums


def score_part(sums: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the sums that say how good params are, without those about the update itself."""
    return {name: tuple(values) for name, values in sums.items() if name != NORM_SUM}


def score_of(plan: Plan) -> Callable[[Sums], float | None]:
    """Return the plan's validation metric of summed scores; higher is better."""

    def score(sums: Sums) -> float | None:
        part = score_part(sums)
        if not part or part["n"][0] == 0:
            return None
        figures = curve_metrics(part)
        if plan.evaluation.metric == "loss":
            return None if figures["loss"] is None else -float(figures["loss"])
        return None if figures["auroc"] is None else float(figures["auroc"])

    return score


def threshold_of(plan: Plan, sums: Mapping[str, Sequence[int]]) -> float | None:
    """Return Youden's threshold on summed validation histograms, as a probability.

    It is exact to the width of a bin, 0.023 in the logit. None for more than two classes, and
    where the validation cases are of one class.
    """
    if len(plan.task.classes) != 2 or "positives.1" not in sums:
        return None
    positives = np.array(sums["positives.1"], np.int64)[::-1]
    negatives = np.array(sums["negatives.1"], np.int64)[::-1]
    width = 2 * MAX_LOGIT / NUM_BINS
    middles = 1 / (1 + np.exp(-((np.arange(NUM_BINS) + 0.5) * width - MAX_LOGIT)))[::-1]
    filled = positives + negatives > 0
    return youden_of_points(
        np.concatenate([[0], negatives[filled].cumsum()]),
        np.concatenate([[0], positives[filled].cumsum()]),
        np.concatenate([[np.inf], middles[filled]]),
    )
