"""Writes MR and CT volumes as DICOM: one file a slice, or one enhanced multi-frame object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hospitium.errors import DataError
from hospitium.imaging.writing.encoding import Encoding, describe_pixels, set_pixels
from hospitium.imaging.writing.objects import Study, derive_uid, new_object, save

_SOP_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the voxels ``(slice, row, column)`` of a volume lie, in DICOM's LPS millimetres.

    Attributes:
        shape: Slices, rows, columns.
        origin_mm: Centre of the first voxel.
        across: Unit vector of rising columns.
        down: Unit vector of rising rows.
        step_mm: From a slice to the next; not along the normal where the gantry is tilted.
        spacing_mm: Between rows, between columns.
    """

    shape: tuple[int, int, int]
    origin_mm: Vector
    across: Vector
    down: Vector
    step_mm: Vector
    spacing_mm: tuple[float, float]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """``(4, 4)`` from ``(column, row, slice)`` to millimetres in LPS."""
        affine = np.eye(4)
        affine[:3, 0] = np.multiply(self.across, self.spacing_mm[1])
        affine[:3, 1] = np.multiply(self.down, self.spacing_mm[0])
        affine[:3, 2] = self.step_mm
        affine[:3, 3] = self.origin_mm
        return affine

    @property
    def affine_ras(self) -> npt.NDArray[np.float64]:
        """``(4, 4)`` from ``(column, row, slice)`` to millimetres in RAS, as NIfTI has it."""
        return np.asarray(_TO_RAS @ self.affine)

    def position(self, index: int) -> list[str]:
        """Return ``ImagePositionPatient`` of a slice."""
        place = np.asarray(self.origin_mm) + index * np.asarray(self.step_mm)
        return [f"{value:.6f}" for value in place]

    @property
    def orientation(self) -> list[str]:
        """``ImageOrientationPatient``: directions of a row and of a column."""
        return [f"{value:.8f}" for value in (*self.across, *self.down)]

    @property
    def gap_mm(self) -> float:
        """Distance between slices along their normal."""
        normal = np.cross(self.across, self.down)
        return float(abs(np.dot(normal, self.step_mm)))


@dataclass(frozen=True, kw_only=True)
class Tomogram:
    """What the header of a volume says, beside its grid.

    Attributes:
        study: Whose, and by whose equipment.
        modality: ``CT`` or ``MR``.
        series: Name of the series within the study.
        body_part: DICOM ``BodyPartExamined``.
        bits_stored: 1 to 16.
        slope: ``RescaleSlope``, and intercept; None writes none.
        padding: ``PixelPaddingValue``; None writes none.
        attributes: More attributes by keyword: of the scanner, of the sequence.
        encoding: How the stored values are written.
    """

    study: Study
    modality: Literal["CT", "MR"]
    series: str = "series"
    body_part: str
    bits_stored: int
    slope: tuple[float, float] | None = None
    padding: int | None = None
    attributes: tuple[tuple[str, Any], ...] = ()
    encoding: Encoding = "explicit"


def write_slices(
    folder: Path, stored: npt.NDArray[np.integer[Any]], *, grid: Grid, header: Tomogram
) -> list[Dataset]:
    """Write one DICOM file a slice: ``folder/0001.dcm`` and so on; return what was written.

    Args:
        folder: Exists.
        stored: ``(slice, row, column)`` integers that fit ``bits_stored``.
        grid: Where they lie.
        header: Everything else.

    Raises:
        DataError: Values, grid and header do not fit together.
        OSError: The disk refused.
    """
    _check(stored, grid, header)
    written = []
    for index, plane in enumerate(stored):
        dataset = _slice(plane, index, grid, header)
        save(dataset, folder / f"{index + 1:04d}.dcm")
        written.append(dataset)
    return written


def write_frames(
    path: Path, stored: npt.NDArray[np.integer[Any]], *, grid: Grid, header: Tomogram
) -> list[Dataset]:
    """Write a volume as one enhanced multi-frame object (PS3.3 C.7.6.16); else as `write_slices`.

    Returns:
        The one object, in a list.
    """
    _check(stored, grid, header)
    dataset = _image(
        header, sop_class=_ENHANCED[header.modality], instance=header.series, grid=grid
    )
    describe_pixels(dataset, stored, bits=header.bits_stored)
    dataset.NumberOfFrames = len(stored)
    _describe_groups(dataset, grid, header)
    set_pixels(dataset, stored, encoding=header.encoding)
    save(dataset, path)
    return [dataset]


def _check(stored: npt.NDArray[np.integer[Any]], grid: Grid, header: Tomogram) -> None:
    if stored.shape != grid.shape:
        raise DataError(
            f"Volume of {header.study.patient_id}: found values of shape {stored.shape} against "
            f"the grid's {grid.shape} (slice, row, column). Nothing was written. Give the grid "
            "that the values were made for."
        )


def _slice(
    plane: npt.NDArray[np.integer[Any]], index: int, grid: Grid, header: Tomogram
) -> Dataset:
    """Return the object of one slice."""
    dataset = _image(
        header,
        sop_class=_SOP_CLASSES[header.modality],
        instance=f"{header.series}/{index}",
        grid=grid,
    )
    describe_pixels(dataset, plane, bits=header.bits_stored)
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = grid.position(index)
    dataset.ImageOrientationPatient = grid.orientation
    dataset.PixelSpacing = [f"{value:.6f}" for value in grid.spacing_mm]
    dataset.SliceThickness = f"{grid.gap_mm:.4f}"
    if header.slope is not None:
        slope, intercept = header.slope
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.8g}", f"{intercept:.8g}"
        dataset.RescaleType = "HU" if header.modality == "CT" else "US"
    if header.padding is not None:
        kind = "SS" if dataset.PixelRepresentation else "US"
        dataset.add_new("PixelPaddingValue", kind, header.padding)
    set_pixels(dataset, plane, encoding=header.encoding)
    return dataset


def _image(header: Tomogram, *, sop_class: str, instance: str, grid: Grid) -> Dataset:
    """Return an object with what all slices of a volume share."""
    dataset = new_object(
        header.study,
        sop_class=sop_class,
        modality=header.modality,
        series=header.series,
        instance=instance,
    )
    dataset.BodyPartExamined = header.body_part
    dataset.ContentDate = header.study.study_date
    dataset.ContentTime = "120000"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if header.modality == "CT" else "M"]
    dataset.FrameOfReferenceUID = derive_uid(f"{header.study.name}/frame")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BurnedInAnnotation = "NO"
    for keyword, value in header.attributes:
        setattr(dataset, keyword, value)
    return dataset


def _describe_groups(dataset: Dataset, grid: Grid, header: Tomogram) -> None:
    """Fill the multi-frame functional groups: one geometry for all frames, a place for each."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.DimensionOrganizationType = "3D"
    organisation = Dataset()
    organisation.DimensionOrganizationUID = derive_uid(f"{header.study.name}/{header.series}/axes")
    dataset.DimensionOrganizationSequence = [organisation]
    axis = Dataset()
    axis.DimensionOrganizationUID = organisation.DimensionOrganizationUID
    axis.DimensionIndexPointer = 0x00209057  # InStackPositionNumber
    axis.FunctionalGroupPointer = 0x00209111  # FrameContentSequence
    dataset.DimensionIndexSequence = [axis]
    measures, orientation, values, shared = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{value:.6f}" for value in grid.spacing_mm]
    measures.SliceThickness = f"{grid.gap_mm:.4f}"
    orientation.ImageOrientationPatient = grid.orientation
    slope, intercept = header.slope or (1.0, 0.0)
    values.RescaleSlope, values.RescaleIntercept = f"{slope:.8g}", f"{intercept:.8g}"
    values.RescaleType = "HU" if header.modality == "CT" else "US"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [values]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_group(grid, index) for index in range(grid.shape[0])
    ]


def _frame_group(grid: Grid, index: int) -> Dataset:
    """Return what is of one frame alone: its place in the stack and in the patient."""
    content, place, group = Dataset(), Dataset(), Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = index + 1
    content.DimensionIndexValues = [index + 1]
    place.ImagePositionPatient = grid.position(index)
    group.FrameContentSequence = [content]
    group.PlanePositionSequence = [place]
    return group
