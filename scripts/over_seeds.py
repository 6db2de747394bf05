"""Means and intervals over seeds, for the pages of docs/results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np

from hospitium.evaluation.metrics import positive_placements

T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""97.5 % points of Student's t, by degrees of freedom."""


def half_width(values: Sequence[float], within_se: float = 0.0) -> float:
    """Return half the 95 % interval of a mean.

    Two errors add up in squares: that of the seeds, which shrinks with their number (t), and that
    of the test cases, which all seeds share.
    """
    between = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return math.hypot(T95.get(len(values) - 1, 1.96) * between, 1.96 * within_se)


def interval(values: Sequence[float], within_se: float = 0.0, *, form: str = ".4f") -> str:
    """Return mean [95 % limits]; one seed has no limits but those of a shared error."""
    if len(values) == 1 and within_se == 0:
        return f"{values[0]:{form}} (one seed)"
    middle, half = mean(values), half_width(values, within_se)
    return f"{middle:{form}} [{middle - half:{form}}, {middle + half:{form}}]"


def shared_error(pairs: Sequence[tuple[np.ndarray, np.ndarray]], positive: np.ndarray) -> float:
    """Return the standard error, from the test cases, of the mean difference of two AUROCs.

    All seeds share the test cases. So DeLong's components of the difference (DeLong 1988) are
    averaged over the seeds, case by case, before their variance is taken.

    Args:
        pairs: For each seed the scores ``(case,)`` of the one model and of the other.
        positive: Which cases are positive.
    """
    parts = []
    for sign, mask in ((1, positive), (-1, ~positive)):
        each = [
            positive_placements(sign * one, mask) - positive_placements(sign * other, mask)
            for one, other in pairs
        ]
        parts.append(np.mean(each, axis=0))
    return math.sqrt(sum(float(np.var(part, ddof=1)) / len(part) for part in parts))
