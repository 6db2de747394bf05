"""Writes what hospitals' exports hold beside images: objects that a reader must leave out."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_VIDEO = "1.2.840.10008.1.2.4.100"  # MPEG-2
_PIXELS = ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
           "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation")  # fmt: skip
_SYNTAX_ELEMENT = b"\x02\x00\x10\x00UI"


def spoil(dataset: Dataset, *, reason: str) -> bytes:
    """Return a file that a reader must leave out for one reason, made of a good native image.

    Args:
        dataset: A native radiograph; it is changed.
        reason: One of ``SPOILED``.
    """
    return SPOILED[reason](dataset)


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is spoiled on purpose
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _with(**attributes: Any) -> Callable[[Dataset], bytes]:
    """Return a spoiler that sets attributes; None takes one away."""

    def spoiler(dataset: Dataset) -> bytes:
        for keyword, value in attributes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        return _bytes(dataset)

    return spoiler


def _of_class(sop_class: str, *, has_pixels: bool) -> Callable[[Dataset], bytes]:
    """Return a spoiler that makes an object of another kind."""

    def spoiler(dataset: Dataset) -> bytes:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _STORAGE + sop_class
        for keyword in () if has_pixels else _PIXELS:
            delattr(dataset, keyword)
        return _bytes(dataset)

    return spoiler


def _text(dataset: Dataset) -> bytes:
    return f"Report of {dataset.PatientID}\r\nNo image was sent.\r\n".encode() * 8


def _without_syntax(dataset: Dataset) -> bytes:
    """Cut the transfer syntax out of the meta header, and correct the header's length."""
    raw = _bytes(dataset)
    start = raw.index(_SYNTAX_ELEMENT)
    length = 8 + int.from_bytes(raw[start + 6 : start + 8], "little")
    group = int.from_bytes(raw[140:144], "little") - length
    return raw[:140] + group.to_bytes(4, "little") + raw[144:start] + raw[start + length :]


def _cut(dataset: Dataset) -> bytes:
    raw = _bytes(dataset)
    return raw[: 2 * len(raw) // 3]


def _compressed(dataset: Dataset) -> Dataset:
    dataset.compress(
        "1.2.840.10008.1.2.4.80", encoding_plugin="pyjpegls", generate_instance_uid=False
    )
    return dataset


def _other_syntax(dataset: Dataset) -> bytes:
    _compressed(dataset).file_meta.TransferSyntaxUID = _VIDEO
    return _bytes(dataset)


def _other_size(dataset: Dataset) -> bytes:
    _compressed(dataset).Rows -= 1
    return _bytes(dataset)


def _flat(dataset: Dataset) -> bytes:
    dataset.PixelData = bytes(len(dataset.PixelData))
    return _bytes(dataset)


def _colour(dataset: Dataset) -> bytes:
    """Make the photograph of a screen: the same picture in three equal samples."""
    words = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
    grey = (words >> max(0, dataset.BitsStored - 8)).astype(np.uint8)
    grey = grey[: dataset.Rows * dataset.Columns]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    values = np.repeat(grey, 3).tobytes()
    dataset.add_new("PixelData", "OB", values + b"\0" * (len(values) % 2))
    return _bytes(dataset)


SPOILED: Mapping[str, Callable[[Dataset], bytes]] = MappingProxyType(
    {
        "truncated": _cut,
        "no_pixels": _of_class("88.11", has_pixels=False),
        "not_dicom": _text,
        "burned_in": _with(BurnedInAnnotation="YES"),
        "raw_detector": _with(PresentationIntentType="FOR PROCESSING"),
        "constant": _flat,
        "not_selected": _with(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "colour_not_in_plan": _colour,
        "uid_missing": _with(StudyInstanceUID=None),
        "no_patient": _with(PatientID=None),
        "label_object": _of_class("481.3", has_pixels=False),
        "not_an_image": _of_class("481.2", has_pixels=True),
        "missing_attribute": _with(BitsStored=None),
        "bad_attribute": _with(RescaleSlope="0", RescaleIntercept="0"),
        "no_transfer_syntax": _without_syntax,
        "transfer_syntax_unsupported": _other_syntax,
        "codestream_mismatch": _other_size,
        "mosaic": _with(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
    }
)
"""How to make a file that is left out, for each reason; the usual ones first."""
