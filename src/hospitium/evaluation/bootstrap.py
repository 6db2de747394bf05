"""The subject bootstrap: resample people, not images, with the same draws for every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.evaluation.metrics import Bools, Floats, Ints

NUM_REPLICATES = 1000
_BLOCK = 2_000_000  # numbers held at a time: 16 MB

Weights: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Weights], Floats]
"""Takes weights of cases ``(n, B)`` and returns one figure per replicate ``(B,)``."""


class Resamples:
    """How often each case counts in each of ``NUM_REPLICATES`` resamples of the subjects.

    Subjects are drawn with replacement within classes, so each resample has as many of each class
    as the data (Efron and Tibshirani 1993, chapter 8). A subject with cases of several classes
    belongs to the rarest of them. Two models scored on one object are paired.

    Args:
        labels: Class of each case, ``(n,)``, n >= 1.
        subjects: Who each case belongs to, ``(n,)``; numbers or text.
        generator: From ``rng(seed, "bootstrap")``; the same one gives the same resamples.
    """

    def __init__(
        self, labels: Ints, subjects: npt.NDArray[np.generic], generator: np.random.Generator
    ) -> None:
        _, self._subject = np.unique(subjects, return_inverse=True)
        rarity = np.argsort(np.argsort(-np.bincount(labels), kind="stable"))[labels]
        stratum = np.zeros(self._subject.max() + 1, dtype=np.int64)
        np.maximum.at(stratum, self._subject, rarity)
        self._counts = np.zeros((len(stratum), NUM_REPLICATES), dtype=np.int16)
        for value in np.unique(stratum):
            (members,) = np.nonzero(stratum == value)
            even = np.full(len(members), 1 / len(members))
            drawn = generator.multinomial(len(members), even, size=NUM_REPLICATES)
            self._counts[members] = drawn.T

    def draws(self, statistic: Statistic) -> Floats:
        """Return the statistic of the data, then of each resample: ``(1 + NUM_REPLICATES,)``.

        A difference or a mean of figures is the difference or the mean of their draws.
        """
        step = max(1, _BLOCK // len(self._subject))
        whole = np.ones((len(self._subject), 1))
        blocks = [
            statistic(self._counts[self._subject, start : start + step].astype(np.float64))
            for start in range(0, NUM_REPLICATES, step)
        ]
        return np.concatenate([statistic(whole), *blocks])


def limits(draws: Floats) -> tuple[float, float] | None:
    """Return the 2.5 % and 97.5 % points over the resamples; ``None`` if they do not differ.

    Resamples in which the figure is NaN (a class was not drawn) are passed over.
    """
    values = draws[1:][~np.isnan(draws[1:])]
    if not len(values) or values.min() == values.max():
        return None
    lower, upper = np.quantile(values, [0.025, 0.975])
    return float(lower), float(upper)


def weighted_auroc(scores: Floats, positive: Bools, weights: Weights) -> Floats:
    """Return the AUROC under each column of weights, ties counted half.

    Args:
        scores: ``(n,)``, finite.
        positive: ``(n,)``.
        weights: ``(n, B)``, not negative.

    Returns:
        ``(B,)``; NaN where one class has no weight.
    """
    negatives = np.sort(scores[~positive])
    order = np.argsort(scores[~positive], kind="stable")
    heavy = weights[~positive][order]
    cumulative = np.concatenate([np.zeros((1, weights.shape[1])), heavy.cumsum(axis=0)])
    below = cumulative[np.searchsorted(negatives, scores[positive], side="left")]
    up_to = cumulative[np.searchsorted(negatives, scores[positive], side="right")]
    hits = weights[positive]
    wins = np.einsum("ib,ib->b", hits, below + up_to) / 2
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / (hits.sum(axis=0) * cumulative[-1]))
