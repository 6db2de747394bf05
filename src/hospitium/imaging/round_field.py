"""Fundus photographs: the square about the round field that the camera sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.fitting import cropped

_DARK = 0.1
_LEAST_SHARE = 0.02


def crop_to_field(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cut an image to the bounding box of its field, then pad that to a square.

    The field is what is brighter than a tenth of the image's brightest hundredth; a row or column
    belongs to it if 2 % of it does, so that a speck does not count. What is added is black, the
    lowest value. An image without any such row is returned as it is.

    Args:
        values: ``(row, column)`` or ``(row, column, 3)``, black outside the field.
    """
    bright = values.max(axis=2) if values.ndim == 3 else values
    darkest = float(bright.min())
    level = darkest + _DARK * (float(np.percentile(bright, 99)) - darkest)
    rows, columns = (_extent((bright > level).mean(axis=axis)) for axis in (1, 0))
    if rows is None or columns is None:
        return values
    field = np.moveaxis(values[rows, columns], (0, 1), (-2, -1))
    side = max(field.shape[-2:])
    return np.moveaxis(cropped(field, (side, side), background=darkest), (-2, -1), (0, 1))


def _extent(shares: npt.NDArray[np.float64]) -> slice | None:
    """Return the lines from the first to the last that belong to the field; None without any."""
    inside = np.flatnonzero(shares > _LEAST_SHARE)
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else None
