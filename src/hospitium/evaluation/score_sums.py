"""Scores of a model as integers that add over sites, and the figures that follow from the sums.

A site sends these instead of scores of single cases. Histograms have 1,024 bins, uniform in the
logit on [-12, 12] with open ends; reals are ``fixed24``: the nearest multiple of 2^-24.

Names on the wire, for K classes (`layout`):

=================  ========  ===========================================================
``n``              1         cases scored
``not_finite``     1         cases whose logits hold a NaN or an infinity; counted nowhere else
``loss``           1         cross-entropy of each case (nats, at most 1,000), summed, fixed24
``confusion``      K * K     cases by true class (rows) and predicted class (columns)
``positives.C``    1,024     cases of class C by logit of class C; two classes: only C = 1
``negatives.C``    1,024     cases of other classes by logit of class C
=================  ========  ===========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import UsageError
from hospitium.evaluation.intervals import ONE_CLASS, auroc_limits
from hospitium.evaluation.metrics import Floats, Ints
from hospitium.types import Sums

NUM_BINS = 1024
MAX_LOGIT = 12.0
MAX_LOSS = 1000.0
FIXED24 = 1 << 24


def layout(num_classes: int) -> dict[str, int]:
    """Return the name and the length of each vector of sums, for a task of so many classes."""
    bins = {f"{side}.{c}": NUM_BINS for c in _ranked(num_classes) for side in _SIDES}
    return {"n": 1, "not_finite": 1, "loss": 1, "confusion": num_classes**2, **bins}


_SIDES = ("positives", "negatives")


def _ranked(num_classes: int) -> range:
    return range(1, 2) if num_classes == 2 else range(num_classes)


def score_sums(logits: Floats, labels: Ints) -> dict[str, tuple[int, ...]]:
    """Sum up how a model scored some cases.

    The sums of two sets of cases, added, are the sums of both together, bit for bit: each case is
    rounded before anything is added.

    Args:
        logits: ``(n, 1)`` for two classes (the log-odds of class 1), else ``(n, K)``.
        labels: ``(n,)``, in 0..K-1. ``n`` may be 0.

    Returns:
        The vectors named in `layout`.
    """
    num_classes = 2 if logits.shape[1] == 1 else logits.shape[1]
    finite = np.isfinite(logits).all(axis=1)
    labels, odds = labels[finite], _log_odds(logits[finite].astype(np.float64))
    predicted = odds.argmax(axis=1) if num_classes > 2 else (odds[:, 0] >= 0).astype(np.int64)
    own = odds[np.arange(len(labels)), labels if num_classes > 2 else 0]
    own = np.where(labels == 0, -own, own) if num_classes == 2 else own
    loss = np.minimum(np.logaddexp(0.0, -own), MAX_LOSS)  # -log of the true class's probability
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    sums = {
        "n": (len(labels),),
        "not_finite": (int((~finite).sum()),),
        "loss": (int(np.rint(loss * FIXED24).astype(np.int64).sum()),),
        "confusion": tuple(pairs.tolist()),
    }
    for column, c in enumerate(_ranked(num_classes)):
        bins = _bins(odds[:, column])
        for side, chosen in zip(_SIDES, (labels == c, labels != c), strict=True):
            histogram = np.bincount(bins[chosen], minlength=NUM_BINS)
            sums[f"{side}.{c}"] = tuple(histogram.tolist())
    return sums


def _log_odds(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logit of each class's probability against the rest, same shape."""
    if logits.shape[1] == 1:
        return logits
    others = np.empty_like(logits)
    for c in range(logits.shape[1]):
        others[:, c] = np.logaddexp.reduce(np.delete(logits, c, axis=1), axis=1)
    return np.subtract(logits, others)


def _bins(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    scaled = np.floor((odds + MAX_LOGIT) * (NUM_BINS / (2 * MAX_LOGIT)))
    return np.clip(scaled, 0, NUM_BINS - 1).astype(np.int64)


def add_sums(left: Sums, right: Sums) -> dict[str, tuple[int, ...]]:
    """Return the sums of both sets of cases together.

    Raises:
        UsageError: The two do not hold the same names and lengths. Nothing is added.
    """
    shapes = [{name: len(vector) for name, vector in sums.items()} for sums in (left, right)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"Adding scores: the sums differ in names or lengths, {shapes[0]} against {shapes[1]}. "
            "Nothing was added. Add only sums of the same task."
        )
    return {
        name: tuple(a + b for a, b in zip(vector, right[name], strict=True))
        for name, vector in left.items()
    }


def curve_metrics(sums: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the figures of one point of a training curve, from sums over any number of sites.

    Returns:
        ``auroc`` (macro one-vs-rest over the classes present), ``lower`` and ``upper`` (its 95 %
        limits, DeLong 1988 on bins, two classes only), ``auroc_bound`` (how far binning can have
        moved it: half the share of pairs in one bin), ``accuracy`` (at 0.5, or the most probable
        class), ``loss`` (mean, nats), ``n``, and ``reason``. A figure that does not exist is
        ``None`` and ``reason`` says why; any case that is not finite leaves every figure missing.
    """
    n, broken = sums["n"][0], sums["not_finite"][0]
    empty = dict.fromkeys(("auroc", "lower", "upper", "auroc_bound", "accuracy", "loss"))
    if broken or not n:
        reason = f"the scores of {broken} cases are not finite" if broken else "no cases"
        return {**empty, "n": n, "reason": reason}
    classes = sorted(name.removeprefix("positives.") for name in sums if name.startswith("pos"))
    curves = [_auroc_of_bins(*(sums[f"{side}.{c}"] for side in _SIDES)) for c in classes]
    known = [curve for curve in curves if curve]
    confusion = np.array(sums["confusion"], dtype=np.int64)
    num_classes = round(len(confusion) ** 0.5)
    figures = {
        "accuracy": int(confusion[:: num_classes + 1].sum()) / n,
        "loss": sums["loss"][0] / FIXED24 / n,
        "n": n,
        "reason": None if known else ONE_CLASS,
    }
    if known:
        area, bound = (float(np.mean([curve[k] for curve in known])) for k in (0, 1))
        lower, upper = known[0][2:] if len(classes) == 1 else (None, None)
        figures |= {"auroc": area, "auroc_bound": bound, "lower": lower, "upper": upper}
    return {**empty, **figures}


def _auroc_of_bins(
    positives: tuple[int, ...], negatives: tuple[int, ...]
) -> tuple[float, float, float, float] | None:
    """Return the AUROC of two histograms, the binning bound, and DeLong's limits on bins."""
    pos, neg = np.array(positives, dtype=np.float64), np.array(negatives, dtype=np.float64)
    p, q = float(pos.sum()), float(neg.sum())
    if not (p and q):
        return None
    hits = (neg.cumsum() - neg / 2) / q  # V10 of DeLong 1988, per bin
    alarms = 1 - (pos.cumsum() - pos / 2) / p  # V01
    area = float(pos @ hits / p)
    bound = float(pos @ neg / (2 * p * q))
    variance = float("nan")
    if min(p, q) > 1:
        variance = float(
            pos @ (hits - area) ** 2 / (p * (p - 1)) + neg @ (alarms - area) ** 2 / (q * (q - 1))
        )
    best = round(area)
    support = min(int(pos[hits != best].sum()), int(neg[alarms != best].sum()))
    limits = auroc_limits(area, variance, support=support, num_positive=int(p), num_negative=int(q))
    return area, bound, *limits
