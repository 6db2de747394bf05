"""Arrays of any size to one size: cut or padded about the centre, or resized as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray


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
    resized = _resized(_resized(padded, size[1], axis=1), size[0], axis=0)
    result: FloatArray = np.clip(resized, *ends).astype(np.float32)  # off by 1e-16 at most
    return result


def _padded(plane: FloatArray, size: tuple[int, int], background: float) -> FloatArray:
    """Pad about the centre until rows to columns are as in ``size``, to half a pixel."""
    rows, columns = plane.shape
    want_rows = max(rows, round(columns * size[0] / size[1]))
    want_columns = max(columns, round(rows * size[1] / size[0]))
    if (want_rows, want_columns) == (rows, columns):
        return plane
    result: FloatArray = cropped(plane, (want_rows, want_columns), background=background)
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
