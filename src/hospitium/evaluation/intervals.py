"""A figure with its 95 % interval, in closed form: DeLong, Newcombe, Wilson, and means of these.

Where no closed form holds (several cases of one subject, macro averages, several models) the
subject bootstrap of ``bootstrap.py`` takes over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hospitium.evaluation.metrics import Bools, Floats, positive_placements

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""

FEW_ERRORS = 5
"""With fewer wrongly ranked cases than this in a class, their variance is not to be trusted."""

ONE_CLASS = "one class only"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure, its 95 % limits, and the cases behind it.

    ``num_positive`` counts the cases of the positive class; with more than two classes, of the
    rarest class that is present. ``reason`` says why a figure or its limits are missing, or what a
    macro average leaves out.
    """

    estimate: float | None
    lower: float | None = None
    upper: float | None = None
    n: int = 0
    num_positive: int | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of ``report.json``; ``reason`` is there only if there is one."""
        shown = {
            "estimate": self.estimate,
            "lower": self.lower,
            "upper": self.upper,
            "n": self.n,
            "num_positive": self.num_positive,
        }
        return shown if self.reason is None else {**shown, "reason": self.reason}


def missing(reason: str, *, n: int = 0, num_positive: int | None = None) -> Metric:
    """Return a figure that cannot be computed, with the reason."""
    return Metric(estimate=None, n=n, num_positive=num_positive, reason=reason)


def delong(scores: Floats, positive: Bools) -> Metric:
    """Return the AUROC of independent cases with its interval.

    Variance of DeLong et al. 1988 (Biometrics 44:837), with the placements by sorting as in Sun and
    Xu 2014; the interval is symmetric on the logit of the area, so it stays within 0 and 1. Where
    data give no usable variance (see `auroc_limits`) the interval is `pseudo_score`.
    """
    num_positive, n = int(positive.sum()), len(positive)
    if num_positive in (0, n):
        return missing(ONE_CLASS, n=n, num_positive=num_positive)
    hits, alarms = _placements(scores, positive)
    area = float(hits.mean())
    lower, upper = auroc_limits(
        area,
        _variance(hits, alarms),
        support=min(int((part != round(area)).sum()) for part in (hits, alarms)),
        num_positive=num_positive,
        num_negative=n - num_positive,
    )
    return Metric(estimate=area, lower=lower, upper=upper, n=n, num_positive=num_positive)


def paired_delong(first: Floats, second: Floats, positive: Bools) -> Metric:
    """Return AUROC(first) - AUROC(second) on the same independent cases, with its interval.

    DeLong et al. 1988, with the covariance of the two areas. Where the variance is zero or unknown
    although the scores differ (both models separate perfectly), the limits of the two areas are
    combined as if independent (`mover_difference`): wide, but not a claim of certainty.
    """
    n, num_positive = len(positive), int(positive.sum())
    one, two = delong(first, positive), delong(second, positive)
    if one.estimate is None or two.estimate is None:
        return one
    if _same_order(first, second):
        return Metric(estimate=0.0, lower=0.0, upper=0.0, n=n, num_positive=num_positive)
    hits, alarms = (
        a - b
        for a, b in zip(_placements(first, positive), _placements(second, positive), strict=True)
    )
    variance = _variance(hits, alarms)
    if not variance > 0:
        return mover_difference(one, two)
    difference = one.estimate - two.estimate
    half = Z * math.sqrt(variance)
    return Metric(
        estimate=difference,
        lower=max(-1.0, difference - half),
        upper=min(1.0, difference + half),
        n=n,
        num_positive=num_positive,
    )


def _same_order(first: Floats, second: Floats) -> bool:
    """Return whether two models rank every pair of cases alike, so that no areas can differ."""
    one, two = (np.unique(scores, return_inverse=True)[1] for scores in (first, second))
    return np.array_equal(one, two)


def _placements(scores: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Return DeLong's structural components V10 (per positive) and V01 (per negative)."""
    return positive_placements(scores, positive), positive_placements(-scores, ~positive)


def _variance(hits: Floats, alarms: Floats) -> float:
    """Return DeLong's variance from V10 and V01, NaN where a class has a single case."""
    if min(len(hits), len(alarms)) < 2:
        return math.nan
    return float(hits.var(ddof=1) / len(hits) + alarms.var(ddof=1) / len(alarms))


def auroc_limits(
    area: float, variance: float, *, support: int, num_positive: int, num_negative: int
) -> tuple[float, float]:
    """Return the limits of an area from its variance, symmetric on the logit of the area.

    `pseudo_score` instead, which does not shrink to a point, where the variance is zero or unknown
    (constant scores, one case in a class), or rests on fewer than ``FEW_ERRORS`` cases.

    Args:
        area: The AUROC.
        variance: DeLong's, or NaN.
        support: In the class with fewer of them, the cases that are not ranked perfectly (or, below
            0.5, not perfectly wrongly): only they make up the variance.
        num_positive: At least 1.
        num_negative: At least 1.
    """
    if support < FEW_ERRORS or not (variance > 0 and 0 < area < 1):
        return pseudo_score(area, num_positive=num_positive, num_negative=num_negative)
    logit = math.log(area / (1 - area))
    half = Z * math.sqrt(variance) / (area * (1 - area))
    return _logistic(logit - half), _logistic(logit + half)


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def pseudo_score(area: float, *, num_positive: int, num_negative: int) -> tuple[float, float]:
    """Return limits of an AUROC that hold at 0 and 1 too: Newcombe 2006, method 5.

    Statistics in Medicine 25:559. The limits are the areas ``t`` whose own standard error, after
    Hanley and McNeil 1982 with both class sizes set to their mean, puts the estimate ``Z`` away.
    """
    pairs, star = num_positive * num_negative, (num_positive + num_negative) / 2 - 1

    def distance(t: float) -> float:
        spread = t * (1 - t) * (1 + star * (1 - t) / (2 - t) + star * t / (1 + t)) / pairs
        return (area - t) ** 2 - Z * Z * spread

    return _root(distance, inside=area, outside=0.0), _root(distance, inside=area, outside=1.0)


def _root(distance: Any, *, inside: float, outside: float) -> float:
    """Return where ``distance`` changes sign, by bisection; ``outside`` if it never does."""
    if inside == outside:
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if distance(middle) < 0 or middle == inside:
            inside = middle
        else:
            outside = middle
    return outside


def wilson(num_yes: float, num_cases: float) -> tuple[float, float]:
    """Return the limits of a proportion by the score method (Wilson 1927, JASA 22:209).

    Example:
        >>> tuple(round(limit, 4) for limit in wilson(81, 263))
        (0.2553, 0.3662)
    """
    share, z2 = num_yes / num_cases, Z * Z
    middle = share + z2 / (2 * num_cases)
    half = Z * math.sqrt(share * (1 - share) / num_cases + z2 / (4 * num_cases**2))
    scale = 1 + z2 / num_cases
    lower, upper = (middle - half) / scale, (middle + half) / scale
    return (0.0 if share <= 0 else lower), (1.0 if share >= 1 else upper)


def proportion(yes: Bools) -> Metric:
    """Return the share of yes among independent cases (at least one), with Wilson's interval."""
    lower, upper = wilson(int(yes.sum()), len(yes))
    return Metric(estimate=float(yes.mean()), lower=lower, upper=upper, n=len(yes))


def newcombe_paired(first: Bools, second: Bools) -> Metric:
    """Return the difference of two proportions over the same independent cases.

    Newcombe 1998 (Statistics in Medicine 17:2635), method 10: Wilson's limits of both, joined with
    a continuity-corrected correlation.

    Args:
        first: Whether the first model is right, ``(n,)``, n >= 1.
        second: Whether the second model is right on the same cases.
    """
    one, two = proportion(first), proportion(second)
    e, f = int((first & second).sum()), int((first & ~second).sum())
    g, h = int((~first & second).sum()), int((~first & ~second).sum())
    scale = math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    shift = e * h - f * g
    corrected = max(shift - len(first) / 2, 0.0) if shift > 0 else float(shift)
    return mover_difference(one, two, correlation=corrected / scale if scale else 0.0)


def mover_difference(first: Metric, second: Metric, *, correlation: float = 0.0) -> Metric:
    """Return first - second from the limits of both (Zou and Donner 2008, Stat. Med. 27:1693)."""
    if first.estimate is None or first.lower is None or first.upper is None:
        return first
    if second.estimate is None or second.lower is None or second.upper is None:
        return second
    down = (first.estimate - first.lower, second.upper - second.estimate)
    up = (first.upper - first.estimate, second.estimate - second.lower)
    difference = first.estimate - second.estimate
    return Metric(
        estimate=difference,
        lower=difference - _joined(*down, correlation),
        upper=difference + _joined(*up, correlation),
        n=first.n,
        num_positive=first.num_positive,
    )


def _joined(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b))


def mean_over_sites(metrics: Sequence[Metric]) -> Metric:
    """Return the unweighted mean of figures from independent cases, with an interval.

    Half widths add in squares and the sum is taken as normal. Missing figures are left out, and the
    reason says how many. The interval holds for *these* sites, not for a new one.
    """
    known = [
        (m.estimate, (m.upper - m.lower) / 2, m)
        for m in metrics
        if m.estimate is not None and m.lower is not None and m.upper is not None
    ]
    if not known:
        return missing("no site has this figure")
    mean = sum(estimate for estimate, *_ in known) / len(known)
    half = math.sqrt(sum(half**2 for _, half, _ in known)) / len(known)
    counts = [m.num_positive for *_, m in known if m.num_positive is not None]
    left_out = len(metrics) - len(known)
    return Metric(
        estimate=mean,
        lower=max(0.0, mean - half),
        upper=min(1.0, mean + half),
        n=sum(m.n for *_, m in known),
        num_positive=sum(counts) if counts else None,
        reason=f"over {len(known)} of {len(metrics)} sites" if left_out else None,
    )
