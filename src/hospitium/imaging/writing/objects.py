"""What every DICOM object of a study shares: its subject, its UIDs, and how a file is saved."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

_ROOT = uuid.UUID("6b0f8a2e-6a0c-5f0e-9d5c-5d0f5a1b7c11")  # of this project's derived UIDs


@dataclass(frozen=True, kw_only=True)
class Study:
    """Whose study it is, and which.

    Attributes:
        name: Unique text from which the study's UIDs are derived.
        patient_id: An invented identifier; also the ``PatientName``.
        patient_sex: ``F``, ``M`` or ``O``.
        patient_age: Years.
        study_date: ``YYYYMMDD``.
        manufacturer: Of the equipment.
    """

    name: str
    patient_id: str
    patient_sex: str
    patient_age: int
    study_date: str
    manufacturer: str


def derive_uid(name: str) -> str:
    """Return a UID under 2.25 that belongs to a text: the same on every machine (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_ROOT, name).int}"


def new_object(
    study: Study, *, sop_class: str, modality: str, series: str = "series", instance: str
) -> Dataset:
    """Return an object with its patient, study, series and equipment modules filled.

    Args:
        study: Whose.
        sop_class: UID of its kind.
        modality: DICOM ``Modality``.
        series: Name of its series within the study.
        instance: Name of the object within the study.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"{study.patient_id}^PHANTOM"
    dataset.PatientID = study.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = study.patient_sex
    dataset.PatientAge = f"{study.patient_age:03d}Y"
    dataset.StudyInstanceUID = derive_uid(f"{study.name}/study")
    dataset.StudyDate = study.study_date
    dataset.StudyTime = "120000"
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.SeriesInstanceUID = derive_uid(f"{study.name}/{series}")
    dataset.SeriesNumber = 1
    dataset.Modality = modality
    dataset.Manufacturer = study.manufacturer
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = derive_uid(f"{study.name}/{instance}")
    dataset.InstanceNumber = 1
    dataset.file_meta = _file_meta(dataset)
    return dataset


def save(dataset: Dataset, path: Path) -> None:
    """Write an object as a DICOM file (PS3.10 7), replacing a file of this name."""
    dataset.save_as(path, enforce_file_format=True)


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    """Return the file meta information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derive_uid("hospitium.imaging.writing")
    meta.ImplementationVersionName = "HOSPITIUM_1"
    return meta
