"""Real files for the imaging tests: DICOM objects and PNG images made from arrays."""

import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def _dicom(values: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **attributes) -> bytes:
    """Return a DX image of these words as a file; attributes by keyword, None to leave out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = DX
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    bits = values.dtype.itemsize * 8
    samples = 3 if values.ndim == 3 else 1
    described = {
        "SOPClassUID": DX,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "BurnedInAnnotation": "NO",
        "PatientOrientation": ["L", "F"],
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": attributes.get("BitsStored", bits) - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PixelData": values.tobytes() + b"\0" * (values.nbytes % 2),
        **({"PlanarConfiguration": 0} if samples == 3 else {}),
        **attributes,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in described.items():
            if value is not None:
                setattr(dataset, keyword, value)
        if "PixelData" in dataset:
            dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _png(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def dicom() -> Callable[..., bytes]:
    return _dicom


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    return _png


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(48, dtype=np.uint16).reshape(6, 8)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes images and ``labels.csv`` and gives the folder."""

    def make(rows: list[dict[str, str]], *, size: int = 8, name: str = "labels.csv") -> Path:
        for number, row in enumerate(rows):
            path = tmp_path / row["image"]
            if not path.exists():
                pixels = np.random.default_rng(number).integers(0, 256, (size, size), np.uint8)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_png(pixels))
        with (tmp_path / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    return make
