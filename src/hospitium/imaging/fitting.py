"""Arrays of any size to one size: cut or padded about the centre, or resized as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray

_MAX_PADDED = 1 << 26
"""A strip that padding would make larger than so many pixels is shrunk before."""


def cropped(
    values: npt.NDArray[Any], size: Sequence[int], *, background: float
) -> npt.NDArray[Any]:
    """Cut or pad the last axes about their centre; of an odd rest the smaller half comes first.

    Args:
        values: Any shape.
        size: Of the last axes.
        background: What is added.

    Returns:
        A new contiguous array of the same type.
    """
    ahead = values.shape[: values.ndim - len(size)]
    result = np.full((*ahead, *size), background, values.dtype)
    pairs = list(zip(values.shape[len(ahead) :], size, strict=True))
    source = [slice(max(0, -shift(*pair)), max(0, -shift(*pair)) + min(pair)) for pair in pairs]
    target = [slice(max(0, shift(*pair)), max(0, shift(*pair)) + min(pair)) for pair in pairs]
    into: tuple[Any, ...] = (Ellipsis, *target)
    outof: tuple[Any, ...] = (Ellipsis, *source)
    result[into] = values[outof]
    return result


def shift(found: int, wanted: int) -> int:
    """Return where the first pixel of an axis comes to lie when it is cut or padded to a size."""
    return (wanted - found) // 2 if wanted >= found else -((found - wanted) // 2)


def fit(
    plane: FloatArray, size: tuple[int, int], *, background: float, ends: tuple[float, float]
) -> FloatArray:
    """Pad one plane to the shape of ``size`` and resize it to that: all of it is kept.

    Shrinking is an exact area average (no aliasing), growing is bilinear. Elementwise NumPy: the
    same numbers for any number of workers.

    Args:
        plane: ``(row, column)``.
        size: Rows and columns of the result.
        background: What is added about the centre.
        ends: Between which all values lie; rounding must not lead out of them.
    """
    padded = _padded(plane, size, background)
    resized = _resized(_resized(padded, size[0]).T, size[1]).T  # whole lines both times
    result: FloatArray = np.clip(resized, *ends)  # rounding leads out of them by 1e-7 at most
    return np.ascontiguousarray(result)


def _padded(plane: FloatArray, size: tuple[int, int], background: float) -> FloatArray:
    """Pad about the centre until rows to columns are as in ``size``, to half a pixel."""
    rows, columns = plane.shape
    want_rows = max(rows, round(columns * size[0] / size[1]))
    want_columns = max(columns, round(rows * size[1] / size[0]))
    if (want_rows, want_columns) == (rows, columns):
        return plane
    if want_rows * want_columns > max(_MAX_PADDED, 2 * plane.size):
        plane = _narrowed(plane, size)
        want_rows, want_columns = size
    result: FloatArray = cropped(plane, (want_rows, want_columns), background=background)
    return result


def _narrowed(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Shrink a long strip into ``size`` before it is padded: padding first would take gigabytes."""
    rows, columns = plane.shape
    scale = min(1.0, size[0] / rows, size[1] / columns)
    shorter = _resized(plane, max(1, round(rows * scale)))
    return np.ascontiguousarray(_resized(shorter.T, max(1, round(columns * scale))).T)


def _resized(lines: FloatArray, count: int) -> FloatArray:
    """Change the length of the first axis: exact area average, or bilinear."""
    if count < len(lines):
        return _shrunk(np.ascontiguousarray(lines), count)
    return _grown(lines, count) if count > len(lines) else lines


def _shrunk(lines: FloatArray, count: int) -> FloatArray:
    """Average ``count`` equal stretches of the first axis, counting cut pixels in part.

    The mean is kept. Sums are of one stretch each, never over the whole axis, so that nothing
    cancels: the first pixels of all stretches, then the second, and so on.
    """
    edges = np.arange(count + 1) * (len(lines) / count)
    edges[-1] = len(lines)
    begin, end = edges[:-1], edges[1:]
    first = np.floor(begin).astype(np.int64)
    result = np.zeros((count, *lines.shape[1:]), np.float32)
    part = np.empty_like(result)
    for step in range(int(np.max(np.ceil(end) - first))):
        at = first + step
        inside = np.maximum(np.minimum(at + 1, end) - np.maximum(at, begin), 0)
        weight = (inside / (end - begin)).astype(np.float32)[:, np.newaxis]
        np.take(lines, at, axis=0, out=part, mode="clip")
        part *= weight
        result += part
    return result


def _grown(lines: FloatArray, count: int) -> FloatArray:
    """Interpolate linearly between pixel centres of the first axis; the borders are repeated."""
    found = len(lines)
    at = np.clip((np.arange(count) + 0.5) * found / count - 0.5, 0, found - 1)
    before = np.floor(at).astype(np.int64)
    after = np.minimum(before + 1, found - 1)
    part = (at - before).astype(np.float32)[:, np.newaxis]
    return lines[before] * (1 - part) + lines[after] * part
