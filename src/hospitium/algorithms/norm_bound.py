"""The bound on a site's change, from the norms of the last rounds as one summed histogram."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

NORM_SUM = "log_norm"
"""Name of the metric sum in which a site says, in one bin, how long its change was."""

NUM_BINS = 512
_BINS_PER_DOUBLING = 8
_LOWEST = -32.0
ROUNDS_REMEMBERED = 5


def norm_bin(norm: float) -> int:
    """Return the bin of a norm: eighths of a doubling from 2^-32 to 2^32, open at both ends."""
    if norm <= 0:
        return 0
    return min(NUM_BINS - 1, max(0, int((math.log2(norm) - _LOWEST) * _BINS_PER_DOUBLING)))


def norm_sum(norm: float) -> tuple[int, ...]:
    """Return the histogram of one norm: a one in its bin."""
    counts = [0] * NUM_BINS
    counts[norm_bin(norm)] = 1
    return tuple(counts)


def is_norm_sum(values: Sequence[int]) -> bool:
    """Whether this is the histogram of one norm: a site has one voice in the next bound."""
    return len(values) == NUM_BINS and sum(values) == 1 and max(values) == 1


def log2_norm(values: Sequence[int]) -> float:
    """Return the base-2 logarithm of the one norm in a histogram: the middle of its bin."""
    return _LOWEST + (values.index(1) + 0.5) / _BINS_PER_DOUBLING


def next_bound(histograms: Sequence[Sequence[int]], *, factor: float, fallback: float) -> float:
    """Return ``factor`` times the median norm of these rounds; the fallback if none was seen.

    The median is the middle of its bin, in logarithms: within 5 % of the exact one.
    """
    counts = [sum(column) for column in zip(*histograms, strict=True)] if histograms else []
    total = sum(counts)
    if total == 0:
        return fallback
    index = bisect_left(list(accumulate(counts)), total / 2)
    return factor * math.exp2(_LOWEST + (index + 0.5) / _BINS_PER_DOUBLING)
