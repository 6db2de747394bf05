"""Writes one radiograph as a DICOM file: DX, CR, or a digitised film."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hospitium.errors import DataError
from hospitium.imaging.writing.encoding import Encoding, describe_pixels, set_pixels
from hospitium.imaging.writing.objects import Study, new_object, save

_SOP_CLASSES = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image Storage - For Presentation
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "OT": "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
}


@dataclass(frozen=True, kw_only=True)
class Radiograph:
    """What the header of a frontal chest radiograph says.

    Attributes:
        study: Whose, and by whose equipment.
        modality: ``DX``, ``CR``, or ``OT`` for a digitised film (a secondary capture).
        bits_stored: 1 to 16; more than 8 are stored in 16-bit words.
        photometric: Polarity of the stored values.
        spacing_mm: Between rows and between columns, at the detector or on the film.
        patient_orientation: Where rows and columns point to (PS3.3 C.7.6.1.1.1).
        window: Centre, width and function of the VOI transformation (PS3.3 C.11.2.1.2).
        encoding: How the stored values are written.
    """

    study: Study
    modality: Literal["DX", "CR", "OT"]
    bits_stored: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    spacing_mm: float
    patient_orientation: tuple[str, str] = ("L", "F")
    window: tuple[float, float, str] | None = None
    encoding: Encoding = "explicit"


def write_radiograph(
    path: Path, stored: npt.NDArray[np.unsignedinteger[Any]], *, header: Radiograph
) -> Dataset:
    """Write one DICOM file, little endian, replacing a file of this name.

    Args:
        path: Of the file; its folder exists.
        stored: ``(row, column)``, every value below ``2 ** bits_stored``.
        header: Everything else. Same header and values, same bytes.

    Returns:
        The object that was written, for masks that refer to it.

    Raises:
        DataError: The values do not fit the header. Nothing was written.
        OSError: The disk refused.
    """
    dataset = radiograph(stored, header=header)
    save(dataset, path)
    return dataset


def radiograph(stored: npt.NDArray[np.unsignedinteger[Any]], *, header: Radiograph) -> Dataset:
    """Return the object that `write_radiograph` writes.

    Raises:
        DataError: The values do not fit the header.
    """
    if stored.ndim != 2 or stored.dtype.kind != "u":
        raise DataError(
            f"Radiograph of {header.study.patient_id}: found {stored.dtype} values of shape "
            f"{stored.shape} against unsigned integers (row, column). Nothing was written. "
            "Give one grey image."
        )
    dataset = new_object(
        header.study,
        sop_class=_SOP_CLASSES[header.modality],
        modality=header.modality,
        instance="instance",
    )
    describe_pixels(dataset, stored, bits=header.bits_stored)
    _describe_image(dataset, header)
    set_pixels(dataset, stored, encoding=header.encoding)
    return dataset


def _describe_image(dataset: Dataset, header: Radiograph) -> None:
    """Fill the image and VOI LUT modules of the SOP class, but for the pixels."""
    dataset.BodyPartExamined = "CHEST"
    dataset.ContentDate = header.study.study_date
    dataset.ContentTime = "120000"
    dataset.PatientOrientation = list(header.patient_orientation)
    dataset.BurnedInAnnotation = "NO"
    dataset.PhotometricInterpretation = header.photometric
    if header.window is not None:
        centre, width, function = header.window
        dataset.WindowCenter, dataset.WindowWidth = f"{centre:.6g}", f"{width:.6g}"
        dataset.VOILUTFunction = function
    spacing = [f"{header.spacing_mm:.6g}"] * 2
    if header.modality == "OT":
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.ConversionType = "DF"  # digitised film
        dataset.NominalScannedPixelSpacing = spacing
        return
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ImagerPixelSpacing = spacing
    dataset.ViewPosition = "PA"
    if header.modality == "CR":
        return
    is_inverse = header.photometric == "MONOCHROME1"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = []
    dataset.AcquisitionContextSequence = []
    dataset.DetectorType = "SCINTILLATOR"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if is_inverse else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.PresentationLUTShape = "INVERSE" if is_inverse else "IDENTITY"
