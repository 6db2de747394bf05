"""NIfTI files -> a volume, or labels on a volume's grid; read voxel slice by voxel slice."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hospitium.imaging.canvas import Canvas, labels_on_grid, turned
from hospitium.imaging.geometry import Volume
from hospitium.imaging.grid import Grid, plain_grid
from hospitium.imaging.instance import NOTES, Facts, Limits, Skip, SkipError
from hospitium.imaging.labels import LabelMap, resampled_notes
from hospitium.imaging.nifti_file import (
    NiftiHead,
    Slab,
    open_voxels,
    read_head,
    slabs,
    tail_notes,
)
from hospitium.imaging.reading import read_bytes

_SAME_AFFINE = 1e-3
_WHOLE = 1e-3
_MOST_LABELS = 255


def read_nifti(
    path: Path, *, volume: int | None = None, limits: Limits | None = None
) -> Volume | Skip:
    """Read one NIfTI file, ``.nii`` or ``.nii.gz``; it never raises for a bad file.

    The affine is ``sform`` if its code is above 0, else ``qform``, else ``no_geometry``. Axes are
    permuted and turned to the closest RAS+; only a sheared grid is interpolated (note ``tilt``).
    Voxels that are no finite number are not valid.

    Args:
        path: Of the file.
        volume: Which of several volumes (4D), from 0; without it these are ``ambiguous_stack``.
        limits: What is refused before anything is inflated or allocated.
    """
    raw = read_bytes(path, limits=limits)
    if isinstance(raw, Skip):
        return raw
    return parse_nifti(raw, where=str(path), volume=volume, limits=limits)


def parse_nifti(
    raw: bytes, *, where: str = "", volume: int | None = None, limits: Limits | None = None
) -> Volume | Skip:
    """Read a NIfTI file from its bytes, as `read_nifti` does."""
    try:
        return _volume(raw, volume, limits or Limits())
    except SkipError as error:
        return Skip(reason=error.skip.reason, detail=f"{where}: {error.skip.detail}")


def read_nifti_labels(
    path: Path,
    *,
    like: Volume,
    values: Sequence[int] | None = None,
    limits: Limits | None = None,
) -> LabelMap | Skip:
    """Read a label map that lies on the grid of a volume.

    Args:
        path: Of the NIfTI file.
        like: The volume; shape and affine (1e-3) must be the same, else ``mask_geometry``.
        values: The labels that the plan names, beside 0; None: any of 1 to 255.
        limits: What is refused before anything is inflated or allocated.

    Returns:
        The labels, or ``mask_values`` where a value is 1e-3 off a whole number, or not named.
    """
    raw = read_bytes(path, limits=limits)
    if isinstance(raw, Skip):
        return raw
    return parse_nifti_labels(raw, like=like, values=values, where=str(path), limits=limits)


def parse_nifti_labels(
    raw: bytes,
    *,
    like: Volume,
    values: Sequence[int] | None = None,
    where: str = "",
    limits: Limits | None = None,
) -> LabelMap | Skip:
    """Read a label map from its bytes, as `read_nifti_labels` does."""
    try:
        return _labels(raw, like, values, limits or Limits())
    except SkipError as error:
        return Skip(reason=error.skip.reason, detail=f"{where}: {error.skip.detail}")


def _volume(raw: bytes, number: int | None, limits: Limits) -> Volume:
    stream = open_voxels(raw)
    head = read_head(stream, volume=number, packed_bytes=len(raw), limits=limits)
    grid = plain_grid(head.affine, shape=head.shape)
    canvas = Canvas(grid, max_voxels=limits.max_pixels)
    low, high, notes = math.inf, -math.inf, {"range_assumed", *grid.notes}
    for place, slab in enumerate(slabs(stream, head)):
        with np.errstate(over="ignore", invalid="ignore"):
            values = slab.astype(np.float32)
            is_finite = bool(np.isfinite(values.sum(dtype=np.float64)))
        valid = None if is_finite else np.isfinite(values)
        inside = values if valid is None else values[valid]
        if inside.size:
            low, high = min(low, inside.min()), max(high, inside.max())
        if valid is not None:
            notes.add("not_finite")
            values[~valid] = 0.0
        canvas.put(place, values, valid)
    notes |= tail_notes(stream)
    if low > high:
        raise SkipError("bad_attribute", "no voxel is a finite number")
    voxels, is_valid = canvas.finish()
    return Volume(
        values=voxels[np.newaxis],
        affine=grid.affine,
        range=(float(low), float(high) if high > low else float(low) + 1.0),
        facts=_facts(head),
        is_valid=is_valid,
        digests=(hashlib.sha256(raw).hexdigest(),),
        notes=tuple(code for code in NOTES if code in notes),
        grid=grid,
    )


def _labels(raw: bytes, like: Volume, values: Sequence[int] | None, limits: Limits) -> LabelMap:
    stream = open_voxels(raw)
    head = read_head(stream, volume=None, packed_bytes=len(raw), limits=limits)
    try:
        grid = plain_grid(head.affine, shape=head.shape)
    except SkipError as error:
        raise SkipError("mask_geometry", error.skip.detail) from error
    _check_same(grid, like)
    drawn = np.zeros((grid.num_slices, grid.num_rows, grid.num_columns), np.uint8)
    place = {number: slice_number for slice_number, number in enumerate(grid.order)}
    for number, slab in enumerate(slabs(stream, head)):
        drawn[place[number]] = turned(_whole(slab, values), grid)
    tail_notes(stream)
    labels = labels_on_grid(drawn, grid)
    return LabelMap(labels=labels, affine=like.affine, notes=resampled_notes(drawn, labels, grid))


def _check_same(grid: Grid, like: Volume) -> None:
    shape = tuple(grid.shape[axis] for axis in grid.to_ijk)
    if shape != like.shape:
        raise SkipError("mask_geometry", f"a mask of {shape}, an image of {like.shape}")
    off = np.abs(grid.affine - like.affine).max()
    if not off <= _SAME_AFFINE:
        raise SkipError("mask_geometry", f"the affines differ by {off:.3g}")


def _whole(slab: Slab, values: Sequence[int] | None) -> npt.NDArray[np.uint8]:
    """Return the labels of a slice, or raise ``mask_values``."""
    whole = slab
    if slab.dtype.kind == "f":
        if not np.isfinite(slab).all():
            raise SkipError("mask_values", "a label is no number")
        whole = np.rint(slab)
        if np.abs(slab - whole).max() > _WHOLE:
            raise SkipError("mask_values", "a label is no whole number")
    found = np.unique(whole)
    named = range(_MOST_LABELS + 1) if values is None else {0, *values}
    unknown = [
        int(value) for value in found if not 0 <= value <= _MOST_LABELS or value not in named
    ]
    if unknown:
        raise SkipError("mask_values", f"labels {unknown[:5]}")
    return whole.astype(np.uint8)


def _facts(head: NiftiHead) -> Facts:
    i, j, _ = np.linalg.norm(head.affine[:3, :3], axis=0)
    return Facts(
        modality="",
        manufacturer="",
        rows=head.shape[1],
        columns=head.shape[0],
        bits_stored=head.dtype.itemsize * 8,
        photometric="",
        spacing_mm=(float(j), float(i)),
        frames=head.shape[2],
    )
