"""Which physical values become 0 and 1, or mean 0 and standard deviation 1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray, Mask

Method: TypeAlias = Literal["range", "percentile", "zscore", "window", "pooled"]
METHODS: tuple[Method, ...] = ("range", "percentile", "zscore", "window", "pooled")
"""How a plan may ask for it; see `Levels`."""

_LEAST_STD = 1e-6
_OTSU_BINS = 256
_MOST_COUNTS = 1 << 22
_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A straight line from values to levels, cut off at both ends: ``(x - zero) * gain``."""

    zero: float
    gain: float
    low: float = -math.inf
    high: float = math.inf

    def of(self, values: npt.NDArray[Any]) -> FloatArray:
        """Return the levels of these values, a new float32 array."""
        scaled = np.subtract(values, np.float32(self.zero), dtype=np.float32)
        return self._finished(scaled)

    def put(self, values: FloatArray) -> FloatArray:
        """Turn these values into their levels where they are."""
        values -= np.float32(self.zero)
        return self._finished(values)

    def _finished(self, values: FloatArray) -> FloatArray:
        values *= np.float32(self.gain)
        if math.isfinite(self.low):
            np.clip(values, np.float32(self.low), np.float32(self.high), out=values)
        return values


def between(low: float, high: float) -> Levels:
    """Return the levels in which ``low`` is 0 and ``high`` is 1; all are 0 if they are equal."""
    gain = 1.0 / (high - low) if high > low else 0.0
    return Levels(zero=low, gain=gain, low=0.0, high=1.0)


def about(mean: float, std: float, *, window: tuple[float, float] | None = None) -> Levels:
    """Return the levels of mean 0 and standard deviation 1, of values within a window if given."""
    gain = 1.0 / max(std, _LEAST_STD)
    if window is None:
        return Levels(zero=mean, gain=gain)
    low, high = ((end - mean) * gain for end in window)
    return Levels(zero=mean, gain=gain, low=low, high=high)


def percentile_levels(
    values: npt.NDArray[Any],
    is_valid: Mask | None,
    *,
    shares: tuple[float, float],
    ends: tuple[float, float],
) -> Levels:
    """Return levels between two percentiles of the valid values.

    Where both are equal it is between the lowest and the highest value, without any valid one
    between ``ends``.
    """
    low, high, *_ = found = percentiles(values, is_valid, (*shares, 0.0, 100.0)) or (*ends, *ends)
    return between(low, high) if low < high else between(found[2], found[3])


def zscore_levels(values: npt.NDArray[Any], is_valid: Mask | None) -> Levels:
    """Return levels by mean and standard deviation of the foreground: what Otsu's threshold says.

    Where nothing is above the threshold it is of all valid values; the deviation is taken as
    1e-6 at least.
    """
    threshold = otsu(values, is_valid)
    count, mean = _mean(values, is_valid, above=threshold)
    if count == 0:
        threshold = -math.inf
        count, mean = _mean(values, is_valid, above=threshold)
    squares = sum(
        float(np.square(block.astype(np.float64) - mean).sum())
        for block in _blocks(values, is_valid, above=threshold)
    )
    return about(mean, math.sqrt(squares / count) if count else 0.0)


def percentiles(
    values: npt.NDArray[Any], is_valid: Mask | None, shares: Sequence[float]
) -> tuple[float, ...] | None:
    """Return exact percentiles of the valid values, linear between neighbours, in float64.

    Whole numbers are counted, one pass for their limits and one for the counts; others are
    partitioned, which takes a copy.

    Args:
        values: Any shape, finite.
        is_valid: Of the same shape; None: all.
        shares: Each from 0 to 100.

    Returns:
        One number for each share, None where no value is valid.
    """
    count, low, high, is_whole = _limits(values, is_valid)
    if count == 0:
        return None
    places = [(count - 1) * share / 100 for share in shares]
    ranks = sorted({rank for at in places for rank in (math.floor(at), math.ceil(at))})
    if is_whole and high - low < _MOST_COUNTS:
        ordered = _counted(values, is_valid, ranks, low=int(low), high=int(high))
    else:
        ordered = _partitioned(values, is_valid, ranks)
    found = []
    for at in places:
        below, above = ordered[math.floor(at)], ordered[math.ceil(at)]
        found.append(below + (at - math.floor(at)) * (above - below))
    return tuple(found)


def otsu(values: npt.NDArray[Any], is_valid: Mask | None) -> float:
    """Return the value that parts the valid ones best in two (Otsu, IEEE SMC 9(1), 1979).

    Of 256 equal bins, in the middle of a gap; what is above it is foreground. Of equal values
    none is: it is the value.
    """
    count, low, high, _ = _limits(values, is_valid)
    if count == 0 or high <= low:
        return low
    counts, scale = np.zeros(_OTSU_BINS), _OTSU_BINS / (high - low)
    for block in _blocks(values, is_valid):
        bins = ((block.astype(np.float64) - low) * scale).astype(np.intp)
        counts += np.bincount(np.minimum(bins, _OTSU_BINS - 1), minlength=_OTSU_BINS)
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * np.arange(_OTSU_BINS))
    above = count - below
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between_classes = below * above * np.square(means[0] - means[1])
    best = np.flatnonzero(between_classes == between_classes.max())
    return low + (int(best[len(best) // 2]) + 1) / scale


def _blocks(
    values: npt.NDArray[Any], is_valid: Mask | None, *, above: float = -math.inf
) -> Iterator[npt.NDArray[Any]]:
    """Yield the valid values above a threshold in short pieces, in one order for any memory."""
    flat = np.ascontiguousarray(values).reshape(-1)
    valid = None if is_valid is None else np.ascontiguousarray(is_valid).reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        if valid is not None:
            block = block[valid[start : start + _BLOCK]]
        if above > -math.inf:
            block = block[block > above]
        if block.size:
            yield block


def _limits(values: npt.NDArray[Any], is_valid: Mask | None) -> tuple[int, float, float, bool]:
    """Return how many valid values there are, the lowest, the highest, and if all are whole."""
    count, low, high, is_whole = 0, math.inf, -math.inf, True
    for block in _blocks(values, is_valid):
        first, last = float(block.min()), float(block.max())
        count, low, high = count + block.size, min(low, first), max(high, last)
        is_whole = is_whole and abs(first) < 1 << 31 and abs(last) < 1 << 31
        is_whole = is_whole and bool((block.astype(np.int32) == block).all())
    return count, low, high, is_whole


def _counted(
    values: npt.NDArray[Any], is_valid: Mask | None, ranks: Sequence[int], *, low: int, high: int
) -> dict[int, float]:
    """Return the values of these ranks (0 is the lowest) by counting each whole number."""
    counts = np.zeros(high - low + 1, np.int64)
    for block in _blocks(values, is_valid):
        part = np.bincount(block.astype(np.intp) - low)
        counts[: part.size] += part
    at = np.searchsorted(np.cumsum(counts), np.asarray(ranks), side="right")
    return {rank: float(low + place) for rank, place in zip(ranks, at.tolist(), strict=True)}


def _partitioned(
    values: npt.NDArray[Any], is_valid: Mask | None, ranks: Sequence[int]
) -> dict[int, float]:
    """Return the values of these ranks (0 is the lowest) from a copy."""
    valid = values.reshape(-1).copy() if is_valid is None else values[is_valid]
    valid.partition(ranks)
    return {rank: float(valid[rank]) for rank in ranks}


def _mean(values: npt.NDArray[Any], is_valid: Mask | None, *, above: float) -> tuple[int, float]:
    """Return how many valid values are above a threshold, and their mean."""
    count, total = 0, 0.0
    for block in _blocks(values, is_valid, above=above):
        count, total = count + block.size, total + float(block.sum(dtype=np.float64))
    return count, total / count if count else 0.0
