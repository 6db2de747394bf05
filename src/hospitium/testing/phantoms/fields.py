"""Smooth random fields, soft edges and coordinates: the brushes that phantoms are drawn with."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.floating[Any]]
"""``(row, column)``; float32 throughout, which Python's own numbers leave as it is."""


def axes(size: int) -> tuple[Image, Image]:
    """Return ``x`` as ``(1, column)`` and ``y`` as ``(row, 1)``, pixel centres in [-1, 1].

    ``x`` runs from the subject's right to the left, ``y`` from head to feet.
    """
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    return line[None, :], line[:, None]


def smooth_field(draw: np.random.Generator, *, size: int, cells: int) -> Image:
    """Draw a smooth field ``(row, column)`` of mean 0 and deviation about 1.

    Args:
        draw: Where the randomness comes from.
        size: Rows and columns of the result.
        cells: Knots in each direction: few for a slow drift, many for a fine texture.
    """
    knots = draw.standard_normal((cells, cells), dtype=np.float32)
    weights = interpolation(size, cells)
    return np.asarray(weights @ knots @ weights.T, dtype=np.float32)


def enlarge(knots: Image, *, size: int) -> Image:
    """Interpolate a square image smoothly to ``(size, size)``."""
    weights = interpolation(size, len(knots))
    flat = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(flat @ knots @ flat.T, dtype=np.float32)


def step(values: Image, *, width: float) -> Image:
    """Rise from 0 to 1 around zero, over about twice ``width``: a soft edge."""
    rise = values * (0.5 / width) + 0.5
    np.clip(rise, 0, 1, out=rise)
    return np.asarray(rise * rise * (3 - 2 * rise), dtype=np.float32)


def bump(values: Image) -> Image:
    """Return ``exp(-values)`` for values >= 0: 1 at the centre of a soft spot."""
    return np.asarray(np.exp(-values))


@lru_cache(maxsize=64)
def interpolation(size: int, cells: int) -> Image:
    """Return cubic B-spline weights ``(size, cells)``, rows scaled to unit energy; read-only."""
    place = (np.arange(size) + 0.5) * (cells / size) - 0.5
    away = np.abs(place[:, None] - np.arange(cells)[None, :])
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    weights = np.where(away < 1, near, far)
    weights /= np.sqrt(np.square(weights).sum(axis=1, keepdims=True))
    weights.setflags(write=False)
    return np.asarray(weights, dtype=np.float32)
