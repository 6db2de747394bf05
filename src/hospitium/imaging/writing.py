"""Writes radiographs as DICOM files, byte for byte the same for the same content.

For phantoms and tests: a site never writes images that it was given.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hospitium.errors import DataError

_SOP_CLASSES = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image Storage - For Presentation
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "OT": "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
}
_ROOT = uuid.UUID("6b0f8a2e-6a0c-5f0e-9d5c-5d0f5a1b7c11")  # of this project's derived UIDs


@dataclass(frozen=True, kw_only=True)
class Radiograph:
    """What the header of a frontal chest radiograph says.

    Attributes:
        modality: ``DX``, ``CR``, or ``OT`` for a digitised film (a secondary capture).
        name: Unique text from which the study, series and instance UIDs are derived.
        patient_id: An invented identifier; also the ``PatientName``.
        patient_sex: ``F``, ``M`` or ``O``.
        patient_age: Years.
        study_date: ``YYYYMMDD``.
        manufacturer: Of the equipment.
        bits_stored: 1 to 16; more than 8 are stored in 16-bit words.
        photometric: Polarity of the stored values.
        spacing_mm: Between rows and between columns, at the detector or on the film.
        patient_orientation: Where rows and columns point to (PS3.3 C.7.6.1.1.1).
        window: Centre, width and function of the VOI transformation (PS3.3 C.11.2.1.2).
        is_implicit: Implicit VR little endian instead of explicit.
    """

    modality: Literal["DX", "CR", "OT"]
    name: str
    patient_id: str
    patient_sex: str
    patient_age: int
    study_date: str
    manufacturer: str
    bits_stored: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    spacing_mm: float
    patient_orientation: tuple[str, str] = ("L", "F")
    window: tuple[float, float, str] | None = None
    is_implicit: bool = False


def derive_uid(name: str) -> str:
    """Return a UID under 2.25 that belongs to a text: the same on every machine (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_ROOT, name).int}"


def write_radiograph(
    path: Path, stored: npt.NDArray[np.unsignedinteger], *, header: Radiograph
) -> None:
    """Write one uncompressed DICOM file, little endian, replacing a file of this name.

    Args:
        path: Of the file; its folder exists.
        stored: ``(row, column)``, every value below ``2 ** bits_stored``.
        header: Everything else. Same header and values, same bytes.

    Raises:
        DataError: The values do not fit the header. Nothing was written.
        OSError: The disk refused.
    """
    _check(stored, header)
    dataset = Dataset()
    _describe_subject(dataset, header)
    _describe_image(dataset, header)
    _describe_pixels(dataset, stored, header)
    dataset.file_meta = _file_meta(header)
    dataset.save_as(path, enforce_file_format=True)


def _check(stored: npt.NDArray[np.unsignedinteger], header: Radiograph) -> None:
    """Refuse values that a reader could not get back."""
    if stored.ndim != 2 or stored.dtype.kind != "u" or not stored.size:
        raise DataError(
            f"DICOM file of {header.patient_id}: found {stored.dtype} values of shape "
            f"{stored.shape} against unsigned integers (row, column). Nothing was written. "
            "Give one grey image."
        )
    if not 1 <= header.bits_stored <= 16 or int(stored.max()) >= 2**header.bits_stored:
        raise DataError(
            f"DICOM file of {header.patient_id}: the highest value is {int(stored.max())} against "
            f"bits_stored = {header.bits_stored}, of 1 to 16. Nothing was written. "
            "Scale the values or store more bits."
        )


def _file_meta(header: Radiograph) -> FileMetaDataset:
    """Return the file meta information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _SOP_CLASSES[header.modality]
    meta.MediaStorageSOPInstanceUID = derive_uid(f"{header.name}/instance")
    meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian if header.is_implicit else ExplicitVRLittleEndian
    )
    meta.ImplementationClassUID = derive_uid("hospitium.imaging.writing")
    meta.ImplementationVersionName = "HOSPITIUM_1"
    return meta


def _describe_subject(dataset: Dataset, header: Radiograph) -> None:
    """Fill the patient, study, series and equipment modules."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"{header.patient_id}^PHANTOM"
    dataset.PatientID = header.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = header.patient_sex
    dataset.PatientAge = f"{header.patient_age:03d}Y"
    dataset.StudyInstanceUID = derive_uid(f"{header.name}/study")
    dataset.StudyDate = header.study_date
    dataset.StudyTime = "120000"
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.SeriesInstanceUID = derive_uid(f"{header.name}/series")
    dataset.SeriesNumber = 1
    dataset.Modality = header.modality
    dataset.BodyPartExamined = "CHEST"
    dataset.Manufacturer = header.manufacturer


def _describe_image(dataset: Dataset, header: Radiograph) -> None:
    """Fill the image modules of the SOP class, but for the pixels."""
    dataset.SOPClassUID = _SOP_CLASSES[header.modality]
    dataset.SOPInstanceUID = derive_uid(f"{header.name}/instance")
    dataset.InstanceNumber = 1
    dataset.ContentDate = header.study_date
    dataset.ContentTime = "120000"
    dataset.PatientOrientation = list(header.patient_orientation)
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    spacing = [f"{header.spacing_mm:.6g}"] * 2
    if header.modality == "OT":
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.ConversionType = "DF"  # digitised film
        dataset.NominalScannedPixelSpacing = spacing
        return
    dataset.ImagerPixelSpacing = spacing
    dataset.ViewPosition = "PA"
    if header.modality == "CR":
        return
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = []
    dataset.AcquisitionContextSequence = []
    dataset.DetectorType = "SCINTILLATOR"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if header.photometric == "MONOCHROME1" else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    is_inverse = header.photometric == "MONOCHROME1"
    dataset.PresentationLUTShape = "INVERSE" if is_inverse else "IDENTITY"


def _describe_pixels(
    dataset: Dataset, stored: npt.NDArray[np.unsignedinteger], header: Radiograph
) -> None:
    """Fill the image pixel and VOI LUT modules."""
    word = "<u1" if header.bits_stored <= 8 else "<u2"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = header.photometric
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 8 if header.bits_stored <= 8 else 16
    dataset.BitsStored = header.bits_stored
    dataset.HighBit = header.bits_stored - 1
    dataset.PixelRepresentation = 0
    if header.window is not None:
        centre, width, function = header.window
        dataset.WindowCenter, dataset.WindowWidth = f"{centre:.6g}", f"{width:.6g}"
        dataset.VOILUTFunction = function
    values = stored.astype(word).tobytes()
    dataset.add_new(
        "PixelData", "OB" if word == "<u1" else "OW", values + b"\0" * (len(values) % 2)
    )
