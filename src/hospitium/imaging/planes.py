"""Where the pixels of a label's frame lie among those of the slices that they were drawn on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hospitium.imaging.elements import Elements
from hospitium.imaging.grid import Grid, Vector
from hospitium.imaging.instance import Mask, SkipError
from hospitium.imaging.label_objects import Drawing, paint

_STRAIGHT, _CROSSED = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]
_FARTHEST = 1e6  # mm: nothing of a patient is beyond
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Where a frame lies: centre of its first pixel, steps to the next row and column, mm RAS."""

    origin: Vector
    row_step: Vector
    column_step: Vector


def read_plane(
    position: Elements | None, orientation: Elements | None, measures: Elements | None
) -> Plane | None:
    """Return the plane that a frame's functional groups give, None where one is absent.

    Raises:
        SkipError: ``bad_attribute``.
    """
    if position is None or orientation is None or measures is None:
        return None
    origin = _numbers(position, "ImagePositionPatient", 3)
    directions = _numbers(orientation, "ImageOrientationPatient", 6)
    between_rows, between_columns = _numbers(measures, "PixelSpacing", 2)
    return Plane(
        origin=origin * _LPS_TO_RAS,
        row_step=directions[3:] * between_rows * _LPS_TO_RAS,
        column_step=directions[:3] * between_columns * _LPS_TO_RAS,
    )


def _numbers(item: Elements, keyword: str, count: int) -> Vector:
    found = item.numbers(keyword)
    if len(found) != count:
        raise SkipError("bad_attribute", f"{keyword} has {len(found)} values")
    if max(map(abs, found)) > _FARTHEST:
        raise SkipError("bad_attribute", f"{keyword} = {found}")
    return np.array(found)


def draw(
    drawing: Drawing, mask: Mask, value: int, *, plane: Plane | None, slice_number: int | None
) -> bool:
    """Draw a mask in place, where its frame lies; return whether it met another label.

    Args:
        drawing: On whose slices.
        mask: ``(row, column)`` of the frame, as stored; not empty.
        value: The label; see `paint`.
        plane: Of the frame; without one its pixels are those of its slice.
        slice_number: The canonical slice that it was derived from, None where that is not told.

    Raises:
        SkipError: ``mask_geometry``: it is not on the pixels of a slice.
    """
    grid = drawing.grid
    if plane is None:
        plane = _plane_of(grid, slice_number, mask.shape)
    corners = np.array([[0, 0], [mask.shape[0] - 1, 0], [0, mask.shape[1] - 1]], np.float64)
    number = _slice(drawing, plane, corners, slice_number)
    to_pixels = np.linalg.pinv(np.stack([grid.row_step, grid.column_step], axis=1))
    first = to_pixels @ (plane.origin - grid.origins[number])
    steps = to_pixels @ np.stack([plane.row_step, plane.column_step], axis=1)
    whole_first, whole_steps = np.rint(first), np.rint(steps)
    if np.abs(whole_steps).tolist() not in (_STRAIGHT, _CROSSED):
        raise SkipError("mask_geometry", "rows and columns are not those of the image")
    off = (first - whole_first)[:, None] + (steps - whole_steps) @ corners.T
    if not np.abs(off).max() <= drawing.off_pixel:
        raise SkipError("mask_geometry", f"{np.abs(off).max():.3g} pixels off those of the image")
    rows, columns = (whole_first[:, None] + whole_steps @ np.argwhere(mask).T).astype(np.int64)
    if min(rows.min(), columns.min()) < 0 or (
        rows.max() >= grid.num_rows or columns.max() >= grid.num_columns
    ):
        raise SkipError("mask_geometry", "the mask goes beyond the image")
    return paint(drawing.labels[number], (rows, columns), value)


def _plane_of(grid: Grid, number: int | None, shape: tuple[int, ...]) -> Plane:
    """Return the plane of a slice as it was stored, for a frame without a plane of its own."""
    if number is None or shape != (grid.num_rows, grid.num_columns):
        raise SkipError("mask_geometry", "neither a place nor a source image of its size")
    flip_rows, flip_columns = grid.flips
    origin = grid.origins[number]
    origin = origin + flip_rows * (grid.num_rows - 1) * grid.row_step
    origin = origin + flip_columns * (grid.num_columns - 1) * grid.column_step
    return Plane(
        origin=origin,
        row_step=-grid.row_step if flip_rows else grid.row_step,
        column_step=-grid.column_step if flip_columns else grid.column_step,
    )


def _slice(drawing: Drawing, plane: Plane, corners: Vector, number: int | None) -> int:
    """Return the slice in whose plane the corners lie; ``number`` if that is given."""
    grid = drawing.grid
    points = plane.origin + corners @ np.stack([plane.row_step, plane.column_step])
    above = points @ grid.normal
    heights = grid.origins @ grid.normal
    if number is None:
        number = int(np.abs(heights - np.median(above)).argmin())
    off = float(np.abs(above - heights[number]).max())
    if not off <= drawing.off_plane_mm:
        raise SkipError("mask_geometry", f"a frame {off:.4g} mm off the plane of its slice")
    return number
