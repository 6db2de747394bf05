"""Fills a volume slice by slice, and puts labels drawn on the slices onto the same grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.grid import Grid
from hospitium.imaging.instance import FloatArray, Mask, SkipError

MAX_VOXELS = 1 << 29
"""The largest volume: 512 Mi voxels, 2 GiB as float32."""

_SNAP = 1e-6


class Canvas:
    """One volume in memory, filled with slices in any order: its peak is one volume and a slice.

    Args:
        grid: Of the stack.
        max_voxels: What is refused before anything is allocated.

    Raises:
        SkipError: ``too_large``.
    """

    def __init__(self, grid: Grid, *, max_voxels: int = MAX_VOXELS) -> None:
        if math.prod(grid.shape) > max_voxels:
            raise SkipError("too_large", f"a volume of {' x '.join(map(str, grid.shape))}")
        self._grid = grid
        self._place = {native: number for number, native in enumerate(grid.order)}
        self._values = np.zeros(grid.shape, np.float32)
        self._is_valid: Mask | None = None
        if grid.shifts is not None:
            self._is_valid = np.ones(grid.shape, np.bool_)

    def put(self, number: int, values: npt.NDArray[Any], is_valid: Mask | None = None) -> None:
        """Add one slice.

        Args:
            number: Of the slice in the input of `lay_out`; each is put once.
            values: ``(row, column)``, as stored.
            is_valid: ``(row, column)``, False for padding; None: all valid.

        Raises:
            SkipError: ``bad_attribute``: the slice has another size.
        """
        slice_number = self._place[number]
        values = turned(values, self._grid)
        valid = None if is_valid is None or is_valid.all() else turned(is_valid, self._grid)
        if self._grid.shifts is not None:
            values, valid = self._shifted(values, valid, self._grid.shifts[slice_number])
        if self._grid.weights is None:
            self._values[slice_number] = values
            self._mark(slice_number, valid)
            return
        for place, weight in self._grid.weights[slice_number]:
            with np.errstate(over="ignore", invalid="ignore"):
                self._values[place] += values * np.float32(weight)
            self._mark(place, valid)

    def finish(self) -> tuple[FloatArray, Mask | None]:
        """Return values and where they are valid, both ``(i, j, k)``; None if all are valid.

        They are views of the memory that was filled, in whatever order of axes that has.
        """
        valid = self._is_valid
        permutation = self._grid.to_ijk
        return (
            self._values.transpose(permutation),
            None if valid is None else valid.transpose(permutation),
        )

    def _mark(self, slice_number: int, valid: Mask | None) -> None:
        if valid is None:
            return
        if self._is_valid is None:
            self._is_valid = np.ones(self._grid.shape, np.bool_)
        self._is_valid[slice_number] &= valid

    def _shifted(
        self, values: npt.NDArray[Any], valid: Mask | None, shift: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[Any], Mask]:
        """Move a slice by parts of a pixel (bilinear); outside it its edge goes on, not valid."""
        inside = np.ones(self._grid.shape[1:], np.bool_)
        valid = np.ones(values.shape, np.bool_) if valid is None else valid
        for axis, amount in enumerate(shift):
            size = self._grid.shape[1 + axis]
            places = np.arange(size) - amount
            is_in = (places > -_SNAP) & (places < values.shape[axis] - 1 + _SNAP)
            inside &= is_in[:, None] if axis == 0 else is_in
            values = _moved(values, amount, size=size, axis=axis)
            valid = _moved(valid, amount, size=size, axis=axis)
        return values, valid & inside


def turned(values: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """Return a stored slice with its rows and columns in canonical direction.

    Raises:
        SkipError: ``bad_attribute``: it has another size than the grid.
    """
    if values.shape != (grid.num_rows, grid.num_columns):
        raise SkipError("bad_attribute", f"a slice of {values.shape} in a stack of others")
    rows, columns = (slice(None, None, -1 if flip else 1) for flip in grid.flips)
    return values[rows, columns]


def labels_on_grid(labels: npt.NDArray[np.uint8], grid: Grid) -> npt.NDArray[np.uint8]:
    """Put labels drawn on a stack's slices onto its volume, each voxel from its nearest pixel.

    Args:
        labels: ``(slice, row, column)``, canonical.
        grid: Of the stack.

    Returns:
        ``(i, j, k)``; 0 outside the slices.
    """
    if not grid.is_resampled:
        return labels.transpose(grid.to_ijk)
    result = np.zeros(grid.shape, np.uint8)
    for place, number in enumerate(_nearest_slices(grid)):
        shift = np.zeros(2) if grid.shifts is None else grid.shifts[number]
        row, column = (math.floor(amount + 0.5) for amount in shift)
        result[place, row : row + grid.num_rows, column : column + grid.num_columns] = labels[
            number
        ]
    return result.transpose(grid.to_ijk)


def _nearest_slices(grid: Grid) -> list[int]:
    """Return for each slice of the volume the number of the nearest slice; of two the lower."""
    if grid.weights is None:
        return list(range(grid.num_slices))
    best = [(0.0, 0)] * grid.shape[0]
    for number, parts in enumerate(grid.weights):
        for place, weight in parts:
            best[place] = max(best[place], (round(weight, 6), -number))
    return [-number for _, number in best]


def _moved(values: npt.NDArray[Any], amount: float, *, size: int, axis: int) -> npt.NDArray[Any]:
    """Move an array along one axis into a wider one; of truth values both neighbours count."""
    whole = math.floor(amount + _SNAP)
    part = np.float32(amount - whole)
    last = values.shape[axis] - 1
    places = np.arange(size) - whole
    here: npt.NDArray[Any] = values.take(np.clip(places, 0, last), axis)
    if part < _SNAP:
        return here
    before = values.take(np.clip(places - 1, 0, last), axis)
    with np.errstate(over="ignore", invalid="ignore"):  # a float of any size may be stored
        moved: npt.NDArray[Any] = (
            here & before if values.dtype == np.bool_ else here + part * (before - here)
        )
    return moved
