"""The grid of a stack of slices: from each slice's true position to a volume's RAS+ affine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import SkipError

Vector: TypeAlias = npt.NDArray[np.float64]

SAME_PLACE_MM = 1e-3
"""Two positions closer than this are one."""

_MISSING, _UNEVEN, _EVEN = 0.5, 0.1, 0.01  # deviation of a gap, as a share of the median gap
_TILT = math.tan(math.radians(0.5))
_MAX_TILT = 1.0  # 45 degrees: no gantry leans further
_SNAP = 1e-6  # of a pixel: what floating point may add to a whole number


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """How the slices of one stack lie in the patient, and in the volume made of them.

    Slices, rows and columns are *canonical*: ordered and turned so that each runs toward the
    positive end of the RAS axis to which it is closest. Nothing of this depends on the order of
    files or on how rows and columns are stored.

    Attributes:
        order: For each canonical slice its number in the input.
        flips: Whether stored rows, and stored columns, run the other way.
        axes: The axis of ``(i, j, k)`` along which slices, rows and columns run.
        num_rows: Rows of a slice.
        num_columns: Columns of a slice.
        origins: ``(slice, 3)``, true centre of the first canonical pixel of each slice, mm RAS.
        row_step: From one row to the next, mm RAS.
        column_step: From one column to the next, mm RAS.
        normal: Unit vector from slice to slice, perpendicular to rows and columns.
        shape: Slices, rows and columns of the volume.
        affine: ``(4, 4)`` from ``(i, j, k)`` of the volume to mm RAS.
        shifts: ``(slice, 2)``, the row and column of the volume at which each slice's first pixel
            lies; None where the slices lie on the grid as they are.
        weights: For each slice the slices of the volume that it is part of, with its share; None
            where each slice is one slice of the volume.
        notes: ``tilt``, ``uneven_slices``.
    """

    order: tuple[int, ...]
    flips: tuple[bool, bool]
    axes: tuple[int, int, int]
    num_rows: int
    num_columns: int
    origins: Vector
    row_step: Vector
    column_step: Vector
    normal: Vector
    shape: tuple[int, int, int]
    affine: Vector
    shifts: Vector | None = None
    weights: tuple[tuple[tuple[int, float], ...], ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_slices(self) -> int:
        """How many slices it is made of."""
        return len(self.order)

    @property
    def is_resampled(self) -> bool:
        """Whether values of the volume are interpolated between those of the slices."""
        return self.shifts is not None or self.weights is not None

    @property
    def gap_mm(self) -> float:
        """Median distance between the planes of neighbouring slices."""
        return float(np.median(np.diff(self.origins @ self.normal)))

    @property
    def to_ijk(self) -> tuple[int, int, int]:
        """The permutation that turns ``(slice, row, column)`` into ``(i, j, k)``."""
        return (self.axes.index(0), self.axes.index(1), self.axes.index(2))


def lay_out(
    origins: Vector,
    *,
    row_step: Vector,
    column_step: Vector,
    num_rows: int,
    num_columns: int,
) -> Grid:
    """Lay parallel slices out as a volume.

    An even stack is only ordered, turned and permuted: no value is interpolated. A stack whose
    steps are more than 0.5 degrees off the normal, or whose gaps are 1 to 10 % uneven, gets an
    orthogonal, even grid onto which the slices are interpolated from their true positions.

    Args:
        origins: ``(slice, 3)``, centre of the first stored pixel of each slice, mm RAS, any order.
        row_step: From one stored row to the next, mm RAS.
        column_step: From one stored column to the next, mm RAS.
        num_rows: Rows of every slice.
        num_columns: Columns of every slice.

    Raises:
        SkipError: ``no_geometry``, ``too_few_slices``, ``ambiguous_stack``, ``missing_slice`` or
            ``uneven_spacing``.
    """
    normal = _normal(origins, row_step, column_step)
    axes = _closest_axes(np.stack([normal, _unit(row_step), _unit(column_step)]))
    flips = (bool(row_step[axes[1]] < 0), bool(column_step[axes[2]] < 0))
    if flips[0]:
        origins, row_step = origins + row_step * (num_rows - 1), -row_step
    if flips[1]:
        origins, column_step = origins + column_step * (num_columns - 1), -column_step
    if normal[axes[0]] < 0:
        normal = -normal
    order = np.argsort(origins @ normal, kind="stable")
    grid = Grid(
        order=tuple(int(number) for number in order),
        flips=flips,
        axes=axes,
        num_rows=num_rows,
        num_columns=num_columns,
        origins=origins[order],
        row_step=row_step,
        column_step=column_step,
        normal=normal,
        shape=(len(order), num_rows, num_columns),
        affine=np.eye(4),
    )
    return _fit(grid)


def plain_grid(affine: Vector, *, shape: tuple[int, int, int]) -> Grid:
    """Return the grid of a volume that is known by its affine only, ``k`` being its slices.

    Raises:
        SkipError: See `lay_out`.
    """
    slices = np.arange(shape[2], dtype=np.float64)[:, None]
    return lay_out(
        affine[:3, 3] + slices * affine[:3, 2],
        row_step=affine[:3, 1],
        column_step=affine[:3, 0],
        num_rows=shape[1],
        num_columns=shape[0],
    )


def _normal(origins: Vector, row_step: Vector, column_step: Vector) -> Vector:
    """Return the unit normal of the slices, once positions and steps are checked."""
    if len(origins) < 2:
        raise SkipError("too_few_slices", "one slice: its distance to a next one is unknown")
    if not all(np.isfinite(found).all() for found in (origins, row_step, column_step)):
        raise SkipError("no_geometry", "a position or direction is no finite number")
    if min(np.linalg.norm(row_step), np.linalg.norm(column_step)) < SAME_PLACE_MM / 10:
        raise SkipError("no_geometry", "rows or columns without a distance")
    rows, columns = _unit(row_step), _unit(column_step)
    if abs(rows @ columns) > _TILT:
        raise SkipError("no_geometry", "rows and columns are not perpendicular")
    return _unit(np.cross(rows, columns))


def _unit(vector: Vector) -> Vector:
    result: Vector = vector / np.linalg.norm(vector)
    return result


def _closest_axes(directions: Vector) -> tuple[int, int, int]:
    """Return the RAS axis of each of three directions: the one that fits best chooses first.

    These are the axes that nibabel's ``io_orientation`` gives for an orthogonal affine.
    """
    known = directions.round(9) + 0.0
    sizes = np.abs(known)  # a direction and its opposite choose the same
    halves = [max(tuple(one), tuple(-one)) for one in known]  # of equal ones: whichever is stored
    axes = [0, 0, 0]
    for number in sorted(range(3), key=lambda n: (-sizes[n].max(), halves[n])):
        axes[number] = int(sizes[number].argmax())
        sizes[:, axes[number]] = -1.0
    return (axes[0], axes[1], axes[2])


def _fit(grid: Grid) -> Grid:
    """Choose the volume's grid for slices in canonical order."""
    heights = grid.origins @ grid.normal
    gaps = np.diff(heights)
    gap = _check_gaps(gaps)
    in_plane = np.diff(grid.origins, axis=0) - gaps[:, None] * grid.normal
    drift = np.median(in_plane / gaps[:, None], axis=0)  # mm sideways per mm of height
    lean = float(np.linalg.norm(drift))
    if lean > _MAX_TILT:
        raise SkipError("no_geometry", "slices step more than 45 degrees off their normal")
    sideways = np.linalg.norm(in_plane - gaps[:, None] * drift, axis=1).max() / gap
    if sideways > _UNEVEN:
        raise SkipError("uneven_spacing", f"a slice lies {sideways:.0%} of the gap beside the line")
    is_uneven = bool(np.abs(gaps / gap - 1).max() > _EVEN)
    notes: tuple[str, ...] = ("tilt",) if lean > _TILT else ()
    if is_uneven or sideways > _EVEN:
        notes += ("uneven_slices",)
    if is_uneven:
        grid, gap = _even(grid, heights, gap)
    if lean > _TILT or sideways > _EVEN:
        grid, origin = _upright(grid)
        return _with_affine(grid, gap * grid.normal, origin, notes)
    return _with_affine(grid, gap * (grid.normal + drift), grid.origins[0], notes)


def _check_gaps(gaps: Vector) -> float:
    """Return the median gap of ordered slices, or raise what is wrong with them."""
    if gaps.min() < SAME_PLACE_MM:
        raise SkipError("ambiguous_stack", "two slices in one plane")
    gap = float(np.median(gaps))
    off = gaps / gap - 1
    if off.max() > _MISSING:
        raise SkipError("missing_slice", f"a gap of {gaps.max():.4g} mm, median {gap:.4g} mm")
    if np.abs(off).max() > _UNEVEN:
        raise SkipError(
            "uneven_spacing", f"gaps of {gaps.min():.4g} to {gaps.max():.4g} mm, median {gap:.4g}"
        )
    return gap


def _even(grid: Grid, heights: Vector, gap: float) -> tuple[Grid, float]:
    """Spread even slices from the first to the last height, each between its two neighbours.

    The distance is the median gap, changed so that a whole number of them fits: nothing is cut
    off and nothing extrapolated.
    """
    span = heights[-1] - heights[0]
    number = max(1, round(span / gap))
    places = np.arange(number + 1) * (span / number)
    above = np.clip(np.searchsorted(heights - heights[0], places, "right"), 1, len(heights) - 1)
    below = above - 1
    share = np.clip((places - heights[below] + heights[0]) / np.diff(heights)[below], 0.0, 1.0)
    found: list[list[tuple[int, float]]] = [[] for _ in heights]
    for place, (low, weight) in enumerate(zip(below, share, strict=True)):
        for number_in, part in ((low, 1.0 - weight), (low + 1, weight)):
            if part > _SNAP:
                found[number_in].append((place, float(part)))
    weights = tuple(tuple(parts) for parts in found)
    shape = (len(places), *grid.shape[1:])
    return replace(grid, weights=weights, shape=shape), float(span / number)


def _upright(grid: Grid) -> tuple[Grid, Vector]:
    """Widen the grid so that all slices fit above one another; return it and its first pixel."""
    steps = np.stack([grid.row_step, grid.column_step], axis=1)
    beside = grid.origins - grid.origins[0]
    beside = beside - (beside @ grid.normal)[:, None] * grid.normal
    shifts = np.linalg.lstsq(steps, beside.T, rcond=None)[0].T
    low = np.floor(shifts.min(axis=0) + _SNAP)
    more = np.ceil(shifts.max(axis=0) - _SNAP) - low
    shape = (grid.shape[0], grid.num_rows + int(more[0]), grid.num_columns + int(more[1]))
    return replace(grid, shifts=shifts - low, shape=shape), grid.origins[0] + steps @ low


def _with_affine(grid: Grid, slice_step: Vector, origin: Vector, notes: tuple[str, ...]) -> Grid:
    affine = np.eye(4)
    for axis, step in zip(grid.axes, (slice_step, grid.row_step, grid.column_step), strict=True):
        affine[:3, axis] = step
    affine[:3, 3] = origin
    return replace(grid, affine=affine + 0.0, notes=notes)  # no -0.0
