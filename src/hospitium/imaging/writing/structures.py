"""Writes masks as DICOM structure sets: closed contours along the edges of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hospitium.imaging.writing.objects import Study, new_object, save
from hospitium.imaging.writing.volumes import Grid

_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
Corner = tuple[int, int]


def trace(mask: npt.NDArray[np.bool_]) -> list[list[Corner]]:
    """Return the closed outlines of a mask ``(row, column)``, holes as outlines of their own.

    Corners are ``(row, column)`` of pixel corners: the centre of pixel (0, 0) is (0.5, 0.5).
    Straight runs keep their ends only. Filling by the even-odd rule at pixel centres gives the
    mask back exactly. Where two pixels touch by a corner, they get an outline each.
    """
    starts = _edges(mask)
    outlines = []
    while starts:
        first = next(iter(starts))
        corner, came, outline = first, (0, 0), list[Corner]()
        while True:
            ways = starts[corner]
            way = _turn(ways, came)
            ways.remove(way)
            if not ways:
                del starts[corner]
            if way != came:
                outline.append(corner)
            corner, came = (corner[0] + way[0], corner[1] + way[1]), way
            if corner == first:
                break
        if _direction(outline[0], outline[1]) == came:
            outline.pop(0)  # the walk began in the middle of a straight run
        outlines.append(outline)
    return outlines


def write_structures(
    path: Path,
    mask: npt.NDArray[np.bool_],
    *,
    grid: Grid,
    study: Study,
    sources: Sequence[Dataset],
    label: str,
) -> None:
    """Write a mask as one region of interest (PS3.3 C.8.8.6), replacing a file of this name.

    Args:
        path: Of the file; its folder exists.
        mask: ``(slice, row, column)`` on the grid of the images.
        grid: Where the voxels lie.
        study: Whose.
        sources: The image of each slice.
        label: Name of the region.

    Raises:
        OSError: The disk refused.
    """
    dataset = new_object(
        study, sop_class=_RTSTRUCT, modality="RTSTRUCT", series="structures", instance="structures"
    )
    dataset.StructureSetLabel = "PHANTOM"
    dataset.StructureSetDate, dataset.StructureSetTime = study.study_date, "120000"
    dataset.FrameOfReferenceUID = sources[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    region = Dataset()
    region.ROINumber = 1
    region.ReferencedFrameOfReferenceUID = sources[0].FrameOfReferenceUID
    region.ROIName = label
    region.ROIGenerationAlgorithm = "MANUAL"
    dataset.StructureSetROISequence = [region]
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(sources)]
    contours = Dataset()
    contours.ReferencedROINumber = 1
    contours.ROIDisplayColor = [255, 0, 0]
    contours.ContourSequence = [
        _contour(outline, index, grid, sources[index], number=number)
        for number, (index, outline) in enumerate(
            (index, outline) for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist()
            for outline in trace(mask[index])
        )
    ]  # fmt: skip
    dataset.ROIContourSequence = [contours]
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = 1
    observation.RTROIInterpretedType = ""
    observation.ROIInterpreter = ""
    dataset.RTROIObservationsSequence = [observation]
    save(dataset, path)


def _edges(mask: npt.NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """Return the steps along pixel edges from each corner, with the mask at the right hand."""
    padded = np.pad(mask, 1)
    starts: dict[Corner, list[Corner]] = {}
    inside = padded[1:-1, 1:-1]
    sides = (
        (~padded[:-2, 1:-1], (0, 0), (0, 1)),  # above: from the left corner to the right
        (~padded[1:-1, 2:], (0, 1), (1, 0)),  # right: down
        (~padded[2:, 1:-1], (1, 1), (0, -1)),  # below: from right to left
        (~padded[1:-1, :-2], (1, 0), (-1, 0)),  # left: up
    )
    for outside, corner, way in sides:
        for row, column in np.argwhere(inside & outside).tolist():
            starts.setdefault((row + corner[0], column + corner[1]), []).append(way)
    return starts


def _turn(ways: Sequence[Corner], came: Corner) -> Corner:
    """Return the way to go on; where two pixels touch by a corner, to the right: around one."""
    right = (came[1], -came[0])
    return right if len(ways) > 1 and right in ways else ways[0]


def _direction(start: Corner, end: Corner) -> Corner:
    """Return the unit step from one corner of an outline to the next."""
    return int(np.sign(end[0] - start[0])), int(np.sign(end[1] - start[1]))


def _contour(
    outline: Sequence[Corner], index: int, grid: Grid, source: Dataset, *, number: int
) -> Dataset:
    """Return one closed contour in millimetres, on the plane of its slice."""
    rows, columns = (np.array(axis) - 0.5 for axis in zip(*outline, strict=True))
    places = np.stack([columns, rows, np.full(len(rows), index), np.ones(len(rows))])
    points = (grid.affine @ places)[:3].T
    image = Dataset()
    image.ReferencedSOPClassUID = source.SOPClassUID
    image.ReferencedSOPInstanceUID = source.SOPInstanceUID
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourNumber = number + 1
    contour.ContourData = [f"{value:.5f}" for value in points.ravel()]
    return contour


def _referenced_frame(sources: Sequence[Dataset]) -> Dataset:
    """Return which study, series and images the contours are drawn on."""
    images = []
    for source in sources:
        image = Dataset()
        image.ReferencedSOPClassUID = source.SOPClassUID
        image.ReferencedSOPInstanceUID = source.SOPInstanceUID
        images.append(image)
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ContourImageSequence = images
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management (retired)
    study.ReferencedSOPInstanceUID = sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = sources[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame
