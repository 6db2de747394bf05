"""A volume with its mask and its affine, moved together from grid to grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.fitting import cropped, shift
from hospitium.imaging.instance import FloatArray, Mask
from hospitium.imaging.labels import is_shrunk, voxel_ml
from hospitium.imaging.resampling import Line, resample, resample_labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Harmonised:
    """A volume as a training case.

    Attributes:
        image: ``(channel, i, j, k)`` float32, contiguous.
        affine: ``(4, 4)`` float64, from ``(i, j, k)`` to mm RAS.
        mask: ``(i, j, k)`` uint8 labels; None where none were given.
        is_valid: ``(i, j, k)``, False for padding and added borders; None: all valid.
        notes: Stable codes of what was tolerated or changed; see ``NOTES``.
    """

    image: FloatArray
    affine: npt.NDArray[np.float64]
    mask: npt.NDArray[np.uint8] | None = None
    is_valid: Mask | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        _, i, j, k = self.image.shape
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j and k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)


def on_lines(case: Harmonised, lines: Sequence[Line]) -> Harmonised:
    """Return a case on another spacing; its image is new even where nothing changes."""
    image, is_valid = resample(case.image[0], lines, case.is_valid)
    affine = _started(case.affine, [float(line.places[0]) for line in lines])
    affine[:3, :3] *= [line.step for line in lines]
    mask = None if case.mask is None else resample_labels(case.mask, lines)
    return replace(case, image=image[np.newaxis], affine=affine, mask=mask, is_valid=is_valid)


def fitting_lines(case: Harmonised, size: Sequence[int]) -> list[Line]:
    """Return the lines of the one spacing, equal along all axes, at which all fits into a size."""
    pairs = list(zip(case.shape, case.spacing_mm, strict=True))
    wanted_mm = max(found * mm / wanted for (found, mm), wanted in zip(pairs, size, strict=True))
    return [Line.of(found, spacing_mm=mm, wanted_mm=wanted_mm) for found, mm in pairs]


def cut(case: Harmonised, size: Sequence[int], *, background: float) -> Harmonised:
    """Return a case cut or padded about its centre; what is added is background, not valid."""
    if case.shape == tuple(size):
        return case
    places = [-shift(*pair) for pair in zip(case.shape, size, strict=True)]
    is_valid = np.ones(case.shape, np.bool_) if case.is_valid is None else case.is_valid
    is_valid = cropped(is_valid, size, background=False)
    return replace(
        case,
        image=cropped(case.image, size, background=background),
        affine=_started(case.affine, places),
        mask=None if case.mask is None else cropped(case.mask, size, background=0),
        is_valid=None if is_valid.all() else is_valid,
    )


def has_shrunk(before: Harmonised, after: Harmonised) -> bool:
    """Return whether a label of more than 1 ml has changed its volume by 5 % or more."""
    if before.mask is None or after.mask is None:
        return False
    sizes_ml = [_label_ml(case.mask, case.affine) for case in (before, after)]
    return any(is_shrunk(*pair) for pair in zip(*sizes_ml, strict=True))


def _label_ml(mask: Any, affine: npt.NDArray[np.float64]) -> list[float]:
    """Return how many millilitres each label from 1 fills."""
    counts = np.bincount(mask.ravel(), minlength=256)[1:]
    return [float(count) * voxel_ml(affine) for count in counts]


def _started(affine: npt.NDArray[np.float64], place: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return an affine whose first voxel is this one of another grid."""
    result = affine.copy()
    result[:3, 3] = affine[:3, :3] @ np.asarray(place, np.float64) + affine[:3, 3]
    return result
