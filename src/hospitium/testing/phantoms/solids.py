"""Coordinates, ellipsoids and smooth fields in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.writing import Grid
from hospitium.testing.phantoms.fields import interpolation

Volume = npt.NDArray[np.floating[Any]]
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Points:
    """Where the voxels ``(slice, row, column)`` lie in the body, in LPS millimetres, float32."""

    x: Volume
    y: Volume
    z: Volume


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a body lay in the scanner: turned about three axes (radians), then shifted (mm)."""

    angles: Triple
    shift_mm: Triple


def draw_pose(draw: np.random.Generator, *, angle: float, shift_mm: float) -> Pose:
    """Draw how a body lay: turned and shifted by at most so much."""
    angles = draw.uniform(-angle, angle, 3)
    shift = draw.uniform(-shift_mm, shift_mm, 3)
    return Pose(angles=tuple(angles.tolist()), shift_mm=tuple(shift.tolist()))


def points_of(grid: Grid, pose: Pose, *, parts: int = 1) -> Points:
    """Return the voxels' places in a body that lies like this.

    Args:
        grid: Of the volume.
        pose: Of the body.
        parts: Each slice is cut into so many thinner ones, for the partial volume effect.
    """
    slices, rows, columns = grid.shape
    turn = _rotation(pose.angles).T
    affine = turn @ grid.affine[:3, :3]
    start = turn @ (np.asarray(grid.origin_mm) - pose.shift_mm)
    inside = (np.arange(slices * parts) - (parts - 1) / 2) / parts
    steps = (np.arange(columns), np.arange(rows)[:, None], inside[:, None, None])
    axes = [
        sum((affine[axis, i] * step for i, step in enumerate(steps)), start=start[axis])
        for axis in range(3)
    ]
    return Points(**dict(zip("xyz", (axis.astype(np.float32) for axis in axes), strict=True)))


def radius(points: Points, *, centre: Triple, radii: Triple, turn: float = 0.0) -> Volume:
    """Return how far each point is from a centre, in radii of an ellipsoid: 1 at its surface.

    Args:
        points: Places.
        centre: In millimetres.
        radii: In millimetres, along left, back and head.
        turn: Of the ellipsoid about the axis from feet to head, in radians.
    """
    x, y, z = points.x - centre[0], points.y - centre[1], points.z - centre[2]
    if turn:
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        x, y = cos * x + sin * y, cos * y - sin * x
    squared = np.square(x * (1 / radii[0]))
    squared += np.square(y * (1 / radii[1]))
    squared += np.square(z * (1 / radii[2]))
    return np.asarray(np.sqrt(squared), dtype=np.float32)


def smooth_volume(draw: np.random.Generator, shape: tuple[int, int, int], *, cells: int) -> Volume:
    """Draw a smooth field of this shape, of mean 0 and deviation about 1, float32."""
    field = draw.standard_normal((cells, cells, cells), dtype=np.float32)
    for axis in range(3):
        field = np.tensordot(field, interpolation(shape[axis], cells), axes=(0, 1))
    return np.asarray(field, dtype=np.float32)


def soften(values: Volume) -> Volume:
    """Blur with (1, 2, 1) / 4 along each axis; edges are repeated."""
    for axis in range(3):
        moved = np.moveaxis(values, axis, 0)
        blurred = 0.5 * moved
        blurred[1:] += 0.25 * moved[:-1]
        blurred[:-1] += 0.25 * moved[1:]
        blurred[0] += 0.25 * moved[0]
        blurred[-1] += 0.25 * moved[-1]
        values = np.moveaxis(blurred, 0, axis)
    return np.ascontiguousarray(values, dtype=np.float32)


def thicken(values: Volume, *, parts: int) -> Volume:
    """Return the mean of every ``parts`` thin slices."""
    thin = values.reshape(len(values) // parts, parts, *values.shape[1:])
    return np.asarray(thin.mean(axis=1, dtype=np.float32))


def _rotation(angles: Triple) -> npt.NDArray[np.float64]:
    """Return the rotation about left, then back, then head."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(3)
        one[first, first] = one[second, second] = cos
        one[first, second], one[second, first] = -sin, sin
        matrix = one @ matrix
    return matrix
