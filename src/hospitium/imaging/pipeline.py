"""Harmonisation: from an `Instance` to an array that is alike at every site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hospitium.errors import UsageError
from hospitium.imaging.instance import FloatArray, Instance

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601-7, 2.5.1
_MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class Harmonise:
    """The named steps from an image to a training case, the same at every site.

    In this order: intensity to [0, 1]; pixels that are not valid to 0; channels (grey from
    colour by ITU-R 601 luma, colour from grey by repetition); pad with 0 about the centre to the
    aspect ratio of ``size``, so that nothing is cut off or stretched; resize by exact area
    average when shrinking (no aliasing), bilinear when growing. All of it is plain elementwise
    NumPy: the same bytes give the same numbers for any number of workers.

    Attributes:
        channels: 1 or 3.
        size: Rows and columns of the result; None keeps each image as it is.
        intensity: ``"range"`` scales the full range of the bit depth, ``"percentile"`` the values
            between two percentiles of the image's valid pixels; values outside are clipped.
        low: Lower percentile, 0 to 100.
        high: Upper percentile, above ``low``.
    """

    channels: int = 1
    size: tuple[int, int] | None = None
    intensity: Literal["range", "percentile"] = "range"
    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        problems = [
            (self.channels in (1, 3), f"channels is {self.channels}, expected 1 or 3"),
            (
                self.size is None or all(1 <= side <= _MAX_SIDE for side in self.size),
                f"size is {self.size}, expected rows and columns from 1 to {_MAX_SIDE}",
            ),
            (
                self.intensity in ("range", "percentile"),
                f'intensity is "{self.intensity}", expected "range" or "percentile"',
            ),
            (
                0 <= self.low < self.high <= 100,
                f"percentiles are {self.low} and {self.high}, expected 0 <= low < high <= 100",
            ),
        ]
        for is_right, message in problems:
            if not is_right:
                raise UsageError(f"Harmonisation: {message}. Nothing was read. Mend the plan.")

    def apply(self, instance: Instance) -> FloatArray:
        """Return a new ``(channel, row, column)`` float32 array in [0, 1]."""
        lo, hi = self._ends(instance)
        values = _scaled(instance.values, lo, hi)
        if instance.is_valid is not None:
            values[~instance.is_valid] = 0.0
        planes = _planes(values, channels=self.channels)
        if self.size is not None and planes.shape[1:] != self.size:
            planes = np.stack([_fit(plane, self.size) for plane in planes])
        return np.ascontiguousarray(np.broadcast_to(planes, (self.channels, *planes.shape[1:])))

    def _ends(self, instance: Instance) -> tuple[float, float]:
        """Return the values that become 0 and 1."""
        if self.intensity == "range":
            return instance.range
        valid = instance.values
        if instance.is_valid is not None:
            valid = valid[instance.is_valid]
        if valid.size == 0:
            return instance.range
        lo, hi = (float(end) for end in np.percentile(valid, (self.low, self.high)))
        if lo < hi:
            return lo, hi
        return float(valid.min()), float(valid.max())


def _scaled(values: FloatArray, lo: float, hi: float) -> FloatArray:
    """Return new values with ``lo`` at 0 and ``hi`` at 1, clipped; all 0 where they are equal."""
    if hi <= lo:
        return np.zeros_like(values)
    scaled = (values - np.float32(lo)) * np.float32(1.0 / (hi - lo))
    np.clip(scaled, 0.0, 1.0, out=scaled)
    return scaled


def _planes(values: FloatArray, *, channels: int) -> FloatArray:
    """Return ``(1, row, column)``, or ``(3, row, column)`` for colour that stays colour."""
    if values.ndim == 2:
        return values[np.newaxis]
    if channels == 3:
        return np.moveaxis(values, 2, 0)
    red, green, blue = (values[..., index] for index in range(3))
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    clipped: FloatArray = np.clip(grey, 0.0, 1.0).astype(np.float32)
    return clipped[np.newaxis]


def _fit(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Pad one plane to the aspect ratio of ``size`` and resize it to that."""
    padded = _padded(plane, size)
    resized = _resized(_resized(padded, size[1], axis=1), size[0], axis=0)
    result: FloatArray = np.clip(resized, 0.0, 1.0).astype(np.float32)  # off by 1e-16 at most
    return result


def _padded(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Add zeros about the centre until rows to columns are as in ``size``, to half a pixel."""
    rows, columns = plane.shape
    want_rows = max(rows, round(columns * size[0] / size[1]))
    want_columns = max(columns, round(rows * size[1] / size[0]))
    if (want_rows, want_columns) == (rows, columns):
        return plane
    result = np.zeros((want_rows, want_columns), np.float32)
    top, left = (want_rows - rows) // 2, (want_columns - columns) // 2
    result[top : top + rows, left : left + columns] = plane
    return result


def _resized(plane: npt.NDArray[np.floating], count: int, *, axis: int) -> npt.NDArray[np.float64]:
    """Change the number of pixels along one axis: exact area average, or bilinear."""
    lines = np.moveaxis(np.asarray(plane, np.float64), axis, 0)
    found = len(lines)
    if count < found:
        lines = _shrunk(lines, count)
    elif count > found:
        lines = _grown(lines, count)
    return np.moveaxis(lines, 0, axis)


def _shrunk(lines: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Average ``count`` equal stretches of the first axis, counting cut pixels in part.

    The mean is kept. Sums run over a stretch and its two cut ends, never over the whole axis, so
    that nothing cancels.
    """
    scale = len(lines) / count
    edges = np.arange(count + 1) * scale
    edges[-1] = len(lines)
    first = np.floor(edges).astype(np.int64)
    part = (edges - first)[:, np.newaxis]
    whole = np.add.reduceat(lines, first[:-1], axis=0)
    at_edge = lines[np.minimum(first, len(lines) - 1)]
    result: npt.NDArray[np.float64] = (
        whole - part[:-1] * at_edge[:-1] + part[1:] * at_edge[1:]
    ) / scale
    return result


def _grown(lines: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Interpolate linearly between pixel centres of the first axis; the borders are repeated."""
    found = len(lines)
    at = np.clip((np.arange(count) + 0.5) * found / count - 0.5, 0, found - 1)
    before = np.floor(at).astype(np.int64)
    after = np.minimum(before + 1, found - 1)
    part = (at - before)[:, np.newaxis]
    return lines[before] * (1 - part) + lines[after] * part
