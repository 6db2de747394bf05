"""Labels on a volume's grid, and how many millilitres they fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.grid import Grid

_LARGE_ML, _SHRUNK = 1.0, 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelMap:
    """Which structure each voxel of a volume belongs to.

    Attributes:
        labels: ``(i, j, k)`` uint8 on the volume's grid; 0 is none.
        affine: ``(4, 4)`` of the volume, to mm RAS.
        notes: Stable codes of what was tolerated or changed; see ``NOTES``.
    """

    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    notes: tuple[str, ...] = ()


def voxel_ml(affine: npt.NDArray[np.float64]) -> float:
    """Return the volume of one voxel in millilitres."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0


def volume_ml(mask: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> float:
    """Return how many millilitres the non-zero voxels of a mask ``(i, j, k)`` fill."""
    return int(np.count_nonzero(mask)) * voxel_ml(affine)


def is_shrunk(before_ml: float, after_ml: float) -> bool:
    """Return whether a mask of more than 1 ml changed by 5 % or more."""
    return before_ml > _LARGE_ML and abs(after_ml - before_ml) >= _SHRUNK * before_ml


def resampled_notes(
    drawn: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], grid: Grid
) -> tuple[str, ...]:
    """Return ``mask_shrunk`` where a label lost its volume between slices and volume.

    Args:
        drawn: ``(slice, row, column)`` on the slices.
        labels: ``(i, j, k)`` on the volume.
        grid: Of both.
    """
    if not grid.is_resampled:
        return ()
    area = float(np.linalg.norm(np.cross(grid.row_step, grid.column_step)))
    pixel_ml, label_ml = area * grid.gap_mm / 1000.0, voxel_ml(grid.affine)
    before, after = (np.bincount(found.ravel(), minlength=256) for found in (drawn, labels))
    shrunk = any(
        is_shrunk(before[label] * pixel_ml, after[label] * label_ml) for label in range(1, 256)
    )
    return ("mask_shrunk",) if shrunk else ()
