"""RTSTRUCT -> labels: closed planar contours, filled at pixel centres by the even-odd rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.canvas import labels_on_grid
from hospitium.imaging.elements import Elements
from hospitium.imaging.geometry import Volume
from hospitium.imaging.grid import Vector
from hospitium.imaging.instance import Limits, Skip, SkipError
from hospitium.imaging.label_objects import (
    STRUCTURE_SET,
    Drawing,
    Structure,
    choose,
    codes,
    inheriting,
    new_drawing,
    open_object,
    paint,
)
from hospitium.imaging.labels import LabelMap, resampled_notes

_MAX_CONTOUR_BYTES = 1 << 24
_MAX_CROSSINGS = 1 << 22  # of outlines and rows, in one region of one slice
_FARTHEST_MM = 1e6
_DECIMALS = 3  # of a pixel: what the decimals of a file leave uncertain decides nothing

Outline: TypeAlias = Vector
"""``(point, 2)``: row and column of each corner, pixel centres being whole numbers."""


def read_rtstruct(
    raw: bytes, *, volume: Volume, structures: Sequence[str] = (), limits: Limits | None = None
) -> LabelMap | Skip:
    """Read regions of interest as labels on a volume's grid (PS3.3 C.8.8.6).

    Only ``CLOSED_PLANAR`` contours count. Those of one region in one slice are filled together by
    the even-odd rule, so that holes stay holes; a pixel belongs to it if its centre does.

    Args:
        raw: A whole DICOM file.
        volume: That the contours were drawn on: of the series that they refer to.
        structures: Which regions become label 1, 2 and so on: see `choose`.
        limits: What is refused before it is parsed.

    Returns:
        The labels; ``mask_geometry`` where a contour is more than a tenth of the slice distance
        off the plane of a slice, or of another frame of reference or series; ``mask_missing``.
    """
    try:
        return _labels(raw, volume, structures, limits or Limits())
    except SkipError as error:
        return error.skip


def filled(outlines: Sequence[Outline], *, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return the pixels ``(rows, columns)`` whose centres lie within an odd number of outlines.

    A centre on the upper or left edge of an outline lies within, on the lower or right one not.

    Raises:
        SkipError: ``too_large``: edges cross more rows than real outlines do.
    """
    if not outlines:
        return np.zeros((rows, columns), np.bool_)
    start = np.concatenate(outlines)
    end = np.concatenate([np.concatenate([outline[1:], outline[:1]]) for outline in outlines])
    ends = np.stack([start[:, 0], end[:, 0]])
    bounds = np.clip(np.ceil([ends.min(axis=0), ends.max(axis=0)]), 0, rows).astype(np.int64)
    first, count = bounds[0], bounds[1] - bounds[0]
    if count.sum() > _MAX_CROSSINGS:
        raise SkipError("too_large", f"outlines cross rows more than {_MAX_CROSSINGS} times")
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count - first, count)
    slope = (end[edge, 1] - start[edge, 1]) / (end[edge, 0] - start[edge, 0])
    column = np.ceil(start[edge, 1] + (row - start[edge, 0]) * slope)
    place = row * (columns + 1) + np.clip(column, 0, columns).astype(np.int64)
    toggles = np.bincount(place, minlength=rows * (columns + 1)).reshape(rows, columns + 1)
    inside: npt.NDArray[np.bool_] = toggles.cumsum(axis=1)[:, :columns] % 2 == 1
    return inside


def _labels(raw: bytes, volume: Volume, names: Sequence[str], limits: Limits) -> LabelMap:
    root = open_object(raw, sop_classes=(STRUCTURE_SET,), limits=limits).elements
    regions = root.items("StructureSetROISequence")
    chosen = choose(_structures(root, regions), names)
    drawing = new_drawing(volume, _frame_of_reference(root, regions, chosen))
    _check_series(root, volume)
    contours: dict[int, list[Elements]] = {}
    for item in root.items("ROIContourSequence"):
        number = item.integer("ReferencedROINumber")
        contours.setdefault(number, []).extend(_closed(item) if number in chosen else ())
    if not any(contours.get(number) for number in chosen):
        raise SkipError("mask_missing", "no closed contour")
    rows, columns = drawing.grid.num_rows, drawing.grid.num_columns
    is_overlap = False
    for number, value in chosen.items():
        for slice_number, outlines in _by_slice(contours.get(number, ()), drawing).items():
            mask = filled(outlines, rows=rows, columns=columns)
            is_overlap |= paint(drawing.labels[slice_number], mask, value)
    labels = labels_on_grid(drawing.labels, drawing.grid)
    notes: tuple[str, ...] = ("mask_overlap",) if is_overlap else ()
    return LabelMap(
        labels=labels,
        affine=volume.affine,
        notes=notes + resampled_notes(drawing.labels, labels, drawing.grid),
    )


# --- the object --------------------------------------------------------------------------------


def _structures(root: Elements, regions: Sequence[Elements]) -> list[Structure]:
    observed: dict[int, tuple[str, ...]] = {}
    for item in root.items("RTROIObservationsSequence"):
        number = item.integer("ReferencedROINumber", default=-1)
        found = codes(inheriting(item, root), "RTROIIdentificationCodeSequence")
        observed[number] = observed.get(number, ()) + found
    structures = []
    for region in regions:
        number = region.integer("ROINumber")
        label = inheriting(region, root).name("ROIName").casefold()
        structures.append(Structure(number=number, codes=observed.get(number, ()), label=label))
    return structures


def _frame_of_reference(root: Elements, regions: Sequence[Elements], chosen: dict[int, int]) -> str:
    """Return the one frame of reference of the chosen regions, empty if none is named."""
    usual = root.text("FrameOfReferenceUID")
    if not usual:
        item = root.item("ReferencedFrameOfReferenceSequence")
        usual = item.text("FrameOfReferenceUID") if item else ""
    found = {
        region.text("ReferencedFrameOfReferenceUID") or usual
        for region in regions
        if region.integer("ROINumber") in chosen
    }
    if len(found) != 1:
        raise SkipError("mask_geometry", f"{len(found)} frames of reference")
    return found.pop()


def _check_series(root: Elements, volume: Volume) -> None:
    """Refuse contours that refer to other series than the volume's."""
    found = {
        series.text("SeriesInstanceUID")
        for frame in root.items("ReferencedFrameOfReferenceSequence")
        for study in frame.items("RTReferencedStudySequence")
        for series in study.items("RTReferencedSeriesSequence")
    } - {""}
    if found and volume.uids.series and volume.uids.series not in found:
        raise SkipError("mask_geometry", "drawn on another series")


def _closed(item: Elements) -> Iterator[Elements]:
    for contour in item.items("ContourSequence"):
        if contour.text("ContourGeometricType") == "CLOSED_PLANAR":
            yield contour


def _by_slice(contours: Sequence[Elements], drawing: Drawing) -> dict[int, list[Outline]]:
    """Return the outlines of each slice, in canonical rows and columns."""
    grid = drawing.grid
    heights = grid.origins @ grid.normal
    to_pixels = np.linalg.pinv(np.stack([grid.row_step, grid.column_step], axis=1))
    found: dict[int, list[Outline]] = {}
    for contour in contours:
        points = _points(contour)
        above = points @ grid.normal
        number = int(np.abs(heights - above.mean()).argmin())
        off = float(np.abs(above - heights[number]).max())
        if off > drawing.off_plane_mm:
            raise SkipError("mask_geometry", f"a contour {off:.4g} mm off the nearest slice")
        outline = (points - grid.origins[number]) @ to_pixels.T
        found.setdefault(number, []).append(outline.round(_DECIMALS))
    return found


def _points(contour: Elements) -> Vector:
    """Return the corners of a contour, ``(point, 3)`` in mm RAS."""
    if len(contour.value("ContourData") or b"") > _MAX_CONTOUR_BYTES:
        raise SkipError("too_large", f"a contour of more than {_MAX_CONTOUR_BYTES} bytes")
    numbers = contour.numbers("ContourData")
    if not numbers or len(numbers) % 3:
        raise SkipError("bad_attribute", f"a contour of {len(numbers)} numbers")
    if max(map(abs, numbers)) > _FARTHEST_MM:
        raise SkipError("mask_geometry", "a contour farther away than any image")
    return np.array(numbers).reshape(-1, 3) * (-1.0, -1.0, 1.0)
