"""Puts stored values into a DICOM object, native or compressed."""

from __future__ import annotations

import io
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from hospitium.errors import DataError

Encoding: TypeAlias = Literal["explicit", "implicit", "jpeg2000", "jpeg-ls", "jpeg"]
"""How stored values are written: native little endian, compressed without loss, or 8-bit JPEG."""

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
_JPEG_QUALITY = 92
_LEAST_SIDE = 32  # of JPEG 2000: it halves an image five times
_COMPRESSED = {
    "jpeg2000": (JPEG2000Lossless, "pylibjpeg"),
    "jpeg-ls": (JPEGLSLossless, "pyjpegls"),
}


def describe_pixels(dataset: Dataset, stored: npt.NDArray[np.integer[Any]], *, bits: int) -> None:
    """Fill the image pixel module of grey values (PS3.3 C.7.6.3), but for polarity and pixels.

    Args:
        dataset: The object.
        stored: ``(row, column)`` or ``(frame, row, column)`` integers.
        bits: ``BitsStored``; more than 8, and signed values, take 16-bit words.

    Raises:
        DataError: A reader could not get these values back.
    """
    _check(dataset, stored, bits=bits)
    is_signed = stored.dtype.kind == "i"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated = 16 if is_signed or bits > 8 else 8
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(is_signed)


def set_pixels(
    dataset: Dataset, stored: npt.NDArray[np.integer[Any]], *, encoding: Encoding
) -> None:
    """Add ``PixelData`` and its transfer syntax to an object whose pixels are described.

    ``"jpeg"`` loses a little, says so (PS3.3 C.7.6.1.1.5), and takes 8 bits only.

    Raises:
        DataError: More than 8 bits or several frames for JPEG, fewer than 32 rows or columns for
            JPEG 2000.
    """
    word = "<u1" if dataset.BitsAllocated == 8 else "<u2"
    dataset.LossyImageCompression = "00"
    if encoding == "jpeg":
        _set_jpeg(dataset, stored)
    elif encoding in _COMPRESSED:
        if encoding == "jpeg2000" and min(stored.shape[-2:]) < _LEAST_SIDE:
            raise DataError(
                f"JPEG 2000 of {dataset.PatientID}: found {stored.shape} against {_LEAST_SIDE} "
                "rows and columns or more. Nothing was written. Choose another encoding."
            )
        syntax, plugin = _COMPRESSED[encoding]
        words = np.ascontiguousarray(stored.astype(word).view(_native(stored, word)))
        dataset.compress(syntax, words, encoding_plugin=plugin, generate_instance_uid=False)
    else:
        is_implicit = encoding == "implicit"
        syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax
        values = stored.astype(word).tobytes()
        kind = "OB" if word == "<u1" else "OW"
        dataset.add_new("PixelData", kind, values + b"\0" * (len(values) % 2))


def _native(stored: npt.NDArray[np.integer[Any]], word: str) -> str:
    """Return the type of the words as an encoder wants them: signed if the values are."""
    return f"{'i' if stored.dtype.kind == 'i' else 'u'}{word[-1]}"


def _set_jpeg(dataset: Dataset, stored: npt.NDArray[np.integer[Any]]) -> None:
    """Compress one 8-bit image by JPEG Baseline."""
    if dataset.BitsAllocated != 8 or stored.ndim != 2:
        raise DataError(
            f"JPEG of {dataset.PatientID}: found {dataset.BitsStored} bits of shape "
            f"{stored.shape} against 8 bits of one image. Nothing was written. Choose another "
            "encoding, or scale the values to 8 bits."
        )
    stream = io.BytesIO()
    Image.fromarray(stored.astype(np.uint8)).save(stream, "JPEG", quality=_JPEG_QUALITY)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.add_new("PixelData", "OB", encapsulate([stream.getvalue()]))
    dataset["PixelData"].is_undefined_length = True
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = f"{round(stored.size / stream.tell())}"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"


def _check(dataset: Dataset, stored: npt.NDArray[np.integer[Any]], *, bits: int) -> None:
    """Refuse values that a reader could not get back."""
    if stored.ndim not in (2, 3) or stored.dtype.kind not in "iu" or not stored.size:
        raise DataError(
            f"DICOM file of {dataset.PatientID}: found {stored.dtype} values of shape "
            f"{stored.shape} against integers (row, column) or (frame, row, column). Nothing was "
            "written. Give grey images."
        )
    low = -(1 << (bits - 1)) if stored.dtype.kind == "i" else 0
    if not 1 <= bits <= 16 or stored.min() < low or stored.max() >= low + (1 << bits):
        raise DataError(
            f"DICOM file of {dataset.PatientID}: values are {int(stored.min())} to "
            f"{int(stored.max())} against bits_stored = {bits}, of 1 to 16. Nothing was written. "
            "Scale the values or store more bits."
        )
