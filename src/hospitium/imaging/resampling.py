"""Arrays onto another spacing: linear where it gets finer, averages where it gets coarser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray, Mask

_HALF = np.float32(0.5)
_SNAP = 1e-6
"""Of a pixel: what floating point may add to a whole number."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """How the pixels of one axis lie among those that are there, both about the same centre.

    Attributes:
        found: Pixels that are there.
        count: Pixels of the result.
        step: Distance between pixels of the result, in pixels that are there.
    """

    found: int
    count: int
    step: float

    @classmethod
    def of(cls, found: int, *, spacing_mm: float, wanted_mm: float) -> Line:
        """Return the line with the wanted spacing that covers the same stretch, to half a pixel."""
        step = wanted_mm / spacing_mm
        if abs(step - 1) < _SNAP:
            return cls(found=found, count=found, step=1.0)
        return cls(found=found, count=max(1, round(found / step)), step=step)

    @property
    def is_same(self) -> bool:
        """Whether nothing changes."""
        return self.step == 1.0 and self.count == self.found

    @property
    def places(self) -> npt.NDArray[np.float64]:
        """Where the centres of the result lie; 0 is the centre of the first pixel."""
        offsets = np.arange(self.count) - (self.count - 1) / 2
        return np.asarray((self.found - 1) / 2 + offsets * self.step, np.float64)

    def nearest(self) -> npt.NDArray[np.intp]:
        """Return for each pixel of the result the nearest that is there; of two the higher."""
        return np.clip(np.floor(self.places + 0.5 + _SNAP), 0, self.found - 1).astype(np.intp)

    def taps(self) -> list[tuple[npt.NDArray[np.intp], FloatArray]]:
        """Return the pixels that each one of the result is made of, with their shares.

        Finer than what is there: the two neighbours of the centre. Coarser: all that the pixel
        covers, each by the part that is covered; a pixel that hangs over the edge is the average
        of what it covers, so that no border is made up.
        """
        return self._covered() if self.step > 1 else self._neighbours()

    def _neighbours(self) -> list[tuple[npt.NDArray[np.intp], FloatArray]]:
        at = np.clip(self.places, 0, self.found - 1)
        before = np.floor(at).astype(np.intp)
        part = at - before
        after = np.minimum(before + 1, self.found - 1)
        return [(before, (1 - part).astype(np.float32)), (after, part.astype(np.float32))]

    def _covered(self) -> list[tuple[npt.NDArray[np.intp], FloatArray]]:
        begin = np.clip(self.places + 0.5 - self.step / 2, 0, self.found)
        end = np.clip(self.places + 0.5 + self.step / 2, 0, self.found)
        first = np.floor(begin).astype(np.intp)
        taps = []
        for number in range(int(np.max(np.ceil(end) - first))):
            index = first + number
            share = np.clip(np.minimum(end, index + 1) - np.maximum(begin, index), 0, None)
            weight = (share / (end - begin)).astype(np.float32)
            taps.append((np.minimum(index, self.found - 1), weight))
        return taps


def resample(
    values: npt.NDArray[Any], lines: Sequence[Line], is_valid: Mask | None = None
) -> tuple[FloatArray, Mask | None]:
    """Return values on another spacing, axis by axis.

    The result does not depend on how ``values`` lies in memory. Beside it, one array of the size
    of the result is in memory at most, and with ``is_valid`` three.

    Args:
        values: Any number of axes; the first ones are those of ``lines``.
        lines: One for each axis that is resampled.
        is_valid: False where a pixel counts for nothing; of the shape of the lines' axes.

    Returns:
        float32, contiguous, a new array; and where it is valid: where at least half of what a
        pixel is made of is. None if all are.
    """
    if is_valid is None or is_valid.all():
        return _along_all(values, lines), None
    shape = tuple(line.count for line in lines)
    more = [1] * (values.ndim - is_valid.ndim)
    sums = _along_all(np.where(is_valid.reshape(*is_valid.shape, *more), values, 0), lines)
    weights = _weights(is_valid, lines)
    found = np.array(np.broadcast_to(weights >= _HALF, shape))
    weights = np.broadcast_to(weights, shape).reshape(*shape, *more)
    np.divide(sums, weights, out=sums, where=weights > 0)
    return sums, None if found.all() else found


def _weights(is_valid: Mask, lines: Sequence[Line]) -> FloatArray:
    """Return how much of each pixel is valid; of length 1 along axes where that never changes.

    Padding is the same in all slices of most scanners: this spares them half of the work.
    """
    changing = list(lines)
    for axis in range(is_valid.ndim):
        slabs = np.moveaxis(is_valid, axis, 0)
        if all(np.array_equal(slab, slabs[0]) for slab in slabs[::-1]):
            first = is_valid[(slice(None),) * axis + (slice(1),)]
            is_valid, changing[axis] = first, Line(found=1, count=1, step=1.0)
    return _along_all(is_valid, changing)


def resample_labels(labels: npt.NDArray[Any], lines: Sequence[Line]) -> npt.NDArray[Any]:
    """Return labels on another spacing, each from the nearest pixel; a new array."""
    for axis, line in enumerate(lines):
        labels = labels.take(line.nearest(), axis)
    return np.ascontiguousarray(labels)


def _along_all(values: npt.NDArray[Any], lines: Sequence[Line]) -> FloatArray:
    """Resample along each axis, where least is left first; the result is contiguous and new."""
    changed = [axis for axis, line in enumerate(lines) if not line.is_same]
    changed.sort(key=lambda axis: lines[axis].count / lines[axis].found)
    for axis in changed:
        values = _along(values, lines[axis], axis, is_last=axis == changed[-1])
    return values if changed else np.array(values, np.float32, order="C")


def _along(values: npt.NDArray[Any], line: Line, axis: int, *, is_last: bool) -> FloatArray:
    """Resample along one axis, a slab at a time: each is small enough to stay in the cache."""
    shape = (*values.shape[:axis], line.count, *values.shape[axis + 1 :])
    result = np.empty_like(values, np.float32, order="C" if is_last else "K", shape=shape)
    across = _slab_axis(values, axis)
    source, target = (
        np.moveaxis(array, (across, axis), (0, 1))
        if across is not None
        else np.moveaxis(array, axis, 0)[np.newaxis]
        for array in (values, result)
    )
    taps = line.taps()
    for here, there in zip(source, target, strict=True):
        flat = np.ascontiguousarray(here, np.float32).reshape(line.found, -1)
        there[...] = _weighted(flat, taps).reshape(there.shape)
    return result


def _slab_axis(values: npt.NDArray[Any], axis: int) -> int | None:
    """Return the axis other than this one along which slabs lie farthest apart in memory."""
    others = [other for other in range(values.ndim) if other != axis]
    if values.ndim < 3 or not others:
        return None
    return max(others, key=lambda other: abs(values.strides[other]))


def _weighted(
    rows: FloatArray, taps: Sequence[tuple[npt.NDArray[np.intp], FloatArray]]
) -> FloatArray:
    """Return sums of whole rows, each with its share, in the order of the taps."""
    (index, weight), *more = taps
    result = rows[index]
    result *= weight[:, np.newaxis]
    for index, weight in more:
        part = rows[index]
        part *= weight[:, np.newaxis]
        result += part
    return result
