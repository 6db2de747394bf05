"""What is measured of one update before it counts: its direction, and how the model did there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from hospitium.evaluation.review_rules import MILLION
from hospitium.evaluation.score_sums import curve_metrics
from hospitium.types import Array, Params

_BLOCK = 1 << 13
"""Values of one dot product: short enough for float32, and BLAS does not wake its own threads."""

_CHUNK = 1 << 18
"""Values that are scaled at a time."""

_LEAST_OTHERS = 1e-6
"""Below this sum of squares the others of length 1 have cancelled out, or there are none."""


class Directions:
    """Whether each change points where all the others do, with one model-sized sum in memory.

    Each change is brought to length 1 first: else one site of most cases would bend the mean so far
    that every other site looks as odd as it.
    """

    def __init__(self) -> None:
        self._lengths: dict[str, float] = {}
        self._sum: dict[str, Array] = {}
        self._squares = 0.0

    def add(self, site_id: str, delta: Params) -> None:
        """Add the change of a site; in the same order they come to the same bits."""
        self._squares = 0.0
        length = math.sqrt(_dot(delta, delta))
        self._lengths[site_id] = length
        if not self._sum:
            self._sum = {name: np.zeros_like(array) for name, array in delta.items()}
        if length > 0:
            share = np.float32(1 / length)
            for name, array in delta.items():
                total, values = self._sum[name].reshape(-1), array.reshape(-1)
                for start in range(0, values.size, _CHUNK):
                    part = slice(start, start + _CHUNK)
                    total[part] += share * values[part]

    def cosine(self, site_id: str, delta: Params) -> float | None:
        """Return the cosine of a change that was added with the sum of all the others.

        ``-1`` to ``1``; None where it or that of the others is zero.
        """
        length = self._lengths[site_id]
        if not self._squares:
            self._squares = _dot(self._sum, self._sum)
        if length <= 0:
            return None
        along = _dot(delta, self._sum) / length
        others = self._squares - 2 * along + 1
        if others <= _LEAST_OTHERS:
            return None
        return max(-1.0, min(1.0, (along - 1) / math.sqrt(others)))


def scored(sums: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return how the model did on a site's validation cases, in millionths, as far as it is known.

    ``loss`` (nats per case), ``auroc`` with ``auroc_error`` (at most its standard error by chance,
    from the numbers of cases), and ``not_finite``, a count, where a score was not finite.
    """
    if "not_finite" not in sums or "loss" not in sums:
        return {}
    if sums["not_finite"][0]:
        return {"not_finite": sums["not_finite"][0]}
    figures: dict[str, Any] = curve_metrics({name: tuple(each) for name, each in sums.items()})
    found = {}
    if figures["loss"] is not None:
        found["loss"] = round(MILLION * figures["loss"])
    if figures["auroc"] is not None:
        found["auroc"] = round(MILLION * figures["auroc"])
        classes = [name[10:] for name in sums if name.startswith("positives.")]
        counts = [(sum(sums[f"positives.{c}"]), sum(sums[f"negatives.{c}"])) for c in classes]
        errors = [_error_by_chance(*each) for each in counts if min(each)]
        found["auroc_error"] = round(MILLION * fmean(errors))
    return found


def _error_by_chance(positive: int, negative: int) -> float:
    """Return the standard error of an AUROC of 0.5: Mann and Whitney 1947; above it, it is less."""
    return math.sqrt((positive + negative + 1) / (12 * positive * negative))


def _dot(one: Params, other: Params) -> float:
    """Return the dot product of two sets of params, in blocks that are added in float64."""
    total = 0.0
    for name, array in one.items():
        left, right = array.reshape(-1), other[name].reshape(-1)
        whole = left.size - left.size % _BLOCK
        rows = (left[:whole].reshape(-1, _BLOCK), right[:whole].reshape(-1, _BLOCK))
        total += float(np.add.reduce(np.vecdot(*rows), dtype=np.float64))
        total += float(np.vecdot(left[whole:], right[whole:]))
    return total
