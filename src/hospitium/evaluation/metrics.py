"""Exact figures of merit of a classifier, computed where the scores of single cases are at hand.

What has to be computed from sums that add over sites is in ``score_sums.py``; intervals are in
``intervals.py`` and ``exam.py``. A figure that does not exist is ``None``, never a default.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.integer]


def auroc(scores: Floats, positive: Bools) -> float | None:
    """Return the area under the ROC curve: P(positive scores higher) + half P(equal).

    Args:
        scores: One finite score per case, ``(n,)``; only their order matters.
        positive: Whether the case is positive, ``(n,)``.

    Returns:
        The area, or ``None`` if the cases are of one class only.
    """
    num_positive = int(positive.sum())
    if num_positive in (0, len(positive)):
        return None
    return float(positive_placements(scores, positive).mean())


def positive_placements(scores: Floats, positive: Bools) -> npt.NDArray[np.float64]:
    """Return, per positive case, the share of negatives below it, equal ones counted half.

    The structural component ``V10`` of DeLong 1988; both classes must be present.
    """
    negatives = np.sort(scores[~positive])
    below = np.searchsorted(negatives, scores[positive], side="left")
    up_to = np.searchsorted(negatives, scores[positive], side="right")
    return (below + up_to) / (2.0 * len(negatives))


def classes_to_rank(labels: Ints, num_classes: int) -> list[int]:
    """Return the classes that have both cases and other cases; for two classes, only class 1.

    Figures that are macro averages go over these: a class that is absent has no AUROC.
    """
    counts = np.bincount(labels, minlength=num_classes)
    ranked = [c for c in range(num_classes) if 0 < counts[c] < len(labels)]
    return [c for c in ranked if c == 1] if num_classes == 2 else ranked


def macro_auroc(probabilities: Floats, labels: Ints) -> float | None:
    """Return the unweighted mean of the one-vs-rest AUROCs of the classes that are present.

    With two columns this is the plain AUROC of class 1.

    Args:
        probabilities: ``(n, K)``, K >= 2.
        labels: ``(n,)``, in 0..K-1.

    Returns:
        The mean, or ``None`` if the cases are of one class only.
    """
    classes = classes_to_rank(labels, probabilities.shape[1])
    areas = [auroc(probabilities[:, c], labels == c) for c in classes]
    return float(np.mean([a for a in areas if a is not None])) if areas else None


def predict(probabilities: Floats, *, threshold: float | None) -> npt.NDArray[np.int64]:
    """Return the predicted class of each case.

    Args:
        probabilities: ``(n, K)``.
        threshold: Two classes: predict class 1 where its probability is at least this. ``None``:
            the class of the highest probability, the lowest such class on ties.
    """
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    assert probabilities.shape[1] == 2, "a threshold needs two classes"
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def accuracy(predicted: Ints, labels: Ints) -> float | None:
    """Return the share of cases whose class is predicted; ``None`` without cases."""
    return float((predicted == labels).mean()) if len(labels) else None


def sensitivity_specificity(
    predicted: Ints, labels: Ints, *, num_classes: int
) -> tuple[float | None, float | None]:
    """Return the share of positives found and of negatives left alone.

    Two classes: class 1 is the positive one. More: the mean over classes, each against the rest,
    of the classes for which the figure exists.

    Returns:
        Sensitivity and specificity; each ``None`` where no case can tell.
    """
    classes = [1] if num_classes == 2 else range(num_classes)
    found = [(predicted == c)[labels == c].mean() for c in classes if (labels == c).any()]
    spared = [(predicted != c)[labels != c].mean() for c in classes if (labels != c).any()]
    return (
        float(np.mean(found)) if found else None,
        float(np.mean(spared)) if spared else None,
    )


def roc_points(scores: Floats, positive: Bools) -> tuple[Ints, Ints, Floats]:
    """Return the corners of the ROC curve as counts, from "nobody" to "everybody".

    Returns:
        ``false_positives``, ``true_positives`` (ascending, both starting at 0) and ``thresholds``
        (descending, starting at infinity): the counts of cases with a score >= threshold.
    """
    distinct, group = np.unique(scores, return_inverse=True)
    hits = np.bincount(group[positive], minlength=len(distinct))[::-1].cumsum()
    alarms = np.bincount(group[~positive], minlength=len(distinct))[::-1].cumsum()
    thresholds = np.concatenate([[np.inf], distinct[::-1].astype(np.float64)])
    return np.concatenate([[0], alarms]), np.concatenate([[0], hits]), thresholds


def youden_threshold(scores: Floats, positive: Bools) -> float | None:
    """Return the threshold with the highest sensitivity + specificity (Youden 1950).

    Meant for *validation* scores. Between two neighbouring scores every threshold decides alike,
    so the best value holds on one or more plateaus, compared here as exact integers. The widest
    plateau is taken, the lowest on ties (it misses fewer), and its midpoint is returned.

    Args:
        scores: Probability of the positive class, ``(n,)``.
        positive: Whether the case is positive, ``(n,)``.

    Returns:
        The threshold ``t`` of "positive where score >= t"; ``None`` if the cases are of one class
        or no threshold is better than chance.

    Example:
        >>> youden_threshold(np.array([0.1, 0.2, 0.6, 0.7]), np.array([False, False, True, True]))
        0.4
    """
    return youden_of_points(*roc_points(scores, positive))


def youden_of_points(alarms: Ints, hits: Ints, thresholds: Floats) -> float | None:
    """Return Youden's threshold of ROC corners as `roc_points` gives them; counts of any size."""
    wide_hits, wide_alarms = hits.astype(object), alarms.astype(object)  # no overflow
    index = wide_hits * int(alarms[-1]) - wide_alarms * int(hits[-1])  # Youden's J times P times Q
    best = int(index.max(initial=0))
    if best <= 0:  # also where one class is absent
        return None
    (at,) = np.nonzero(index == best)
    runs = np.split(at, np.nonzero(np.diff(at) > 1)[0] + 1)
    plateaus = [(float(thresholds[run[-1] + 1]), float(thresholds[run[0]])) for run in runs]
    low, high = max(plateaus, key=lambda p: (p[1] - p[0], -p[0]))  # J holds on (low, high]
    middle = (low + high) / 2
    return middle if middle > low else high
