"""One DICOM file -> `Instance`, or a `Skip` with its reason; the only reader of DICOM pixels."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset

from hospitium.imaging.attributes import attribute, text
from hospitium.imaging.decoding import (
    PixelFormat,
    check_size,
    decode,
    inflated_is_small,
    pixel_format,
)
from hospitium.imaging.header import as_displayed, cautions, chain, facts, subject
from hospitium.imaging.instance import Instance, Limits, Skip, SkipError
from hospitium.imaging.values import physical_values, stored_values

_DEFLATED = "1.2.840.10008.1.2.1.99"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_LABEL_OBJECTS = (_STORAGE + "66.4", _STORAGE + "66.7", _STORAGE + "481.3")
_NOT_IMAGES = (_STORAGE + "481.2",)
_RLE = "1.2.840.10008.1.2.5"


def read_bytes(path: Path, *, limits: Limits | None = None) -> bytes | Skip:
    """Return a file's bytes, or why they cannot be had: ``unreadable_file`` or ``too_large``."""
    limits = limits or Limits()
    try:
        if path.stat().st_size > limits.max_bytes:
            return Skip(reason="too_large", detail=f"{path}: more than {limits.max_bytes} bytes")
        return path.read_bytes()
    except OSError as error:
        return Skip(reason="unreadable_file", detail=str(error))


def read_dicom(path: Path, *, limits: Limits | None = None) -> Instance | Skip:
    """Read one DICOM file; whatever is wrong with it, the answer is a `Skip`, not an exception."""
    raw = read_bytes(path, limits=limits)
    return raw if isinstance(raw, Skip) else parse_dicom(raw, where=str(path), limits=limits)


def parse_dicom(raw: bytes, *, where: str = "", limits: Limits | None = None) -> Instance | Skip:
    """Read one DICOM object from its bytes, as `read_dicom` does.

    Args:
        raw: A whole file, with or without preamble.
        where: Written into the detail of a skip.
        limits: What is refused before it is decoded.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return _instance(raw, limits or Limits(), caught)
        except SkipError as error:
            return Skip(reason=error.skip.reason, detail=f"{where}: {error.skip.detail}")


def _instance(raw: bytes, limits: Limits, caught: list[warnings.WarningMessage]) -> Instance:
    dataset, transfer_syntax, notes = _parse(raw, limits, caught)
    pixels = _pixel_bytes(dataset)
    found = pixel_format(dataset, transfer_syntax=transfer_syntax)
    if text(dataset, "SOPClassUID") in _NOT_IMAGES:
        raise SkipError("not_an_image", "RT Dose")
    notes += check_size(found, num_bytes=len(pixels), limits=limits)
    words, more = decode(dataset, found)
    notes += more
    if words.ndim == 3:
        values, limits_of_values, valid = _colour_values(words, found)
    else:
        steps, more = chain(dataset, found)
        notes += more
        values, limits_of_values, valid = physical_values(_stored(words, found), steps)
        values, valid, more = as_displayed(values, valid, dataset)
        notes += more
    if caught:
        notes += ("reader_warning",)
    return Instance(
        values=values,
        range=limits_of_values,
        is_valid=valid,
        facts=facts(dataset, found),
        notes=tuple(dict.fromkeys(notes)),
        cautions=cautions(dataset),
        subject=subject(dataset),
    )


# --- the file ----------------------------------------------------------------------------------


def _parse(
    raw: bytes, limits: Limits, caught: list[warnings.WarningMessage]
) -> tuple[FileDataset, str, tuple[str, ...]]:
    """Return the data set, its transfer syntax and notes, or raise why it is none."""
    has_meta = raw[128:132] == b"DICM"
    if has_meta:
        _check_inflated(raw, limits)
    try:  # on damaged bytes pydicom raises whatever its converters raise
        dataset = pydicom.dcmread(io.BytesIO(raw), force=not has_meta)
    except Exception as error:
        reason = "truncated" if has_meta else "not_dicom"
        raise SkipError(reason, f"{type(error).__name__}: {error}") from error
    if not has_meta:
        if not text(dataset, "SOPClassUID").startswith(_STORAGE):
            raise SkipError("not_dicom", "no DICM prefix and no known SOPClassUID")
        return dataset, _assumed_syntax(dataset), ("no_file_meta",)
    syntax = text(dataset.file_meta, "TransferSyntaxUID")
    if not syntax:
        raise SkipError("no_transfer_syntax", "no TransferSyntaxUID")
    if len(dataset) == 0 or any("end of file" in str(w.message).lower() for w in caught):
        raise SkipError("truncated", "the data set ends early")
    return dataset, syntax, ()


def _assumed_syntax(dataset: FileDataset) -> str:
    """Return the syntax in which a data set without header was parsed; pixels are native."""
    is_implicit, is_little_endian = dataset.original_encoding
    syntax = "1.2.840.10008.1.2" if is_implicit else "1.2.840.10008.1.2.1"
    syntax = syntax if is_little_endian else "1.2.840.10008.1.2.2"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    return syntax


def _check_inflated(raw: bytes, limits: Limits) -> None:
    """Refuse a deflated data set that would not fit, before pydicom inflates it in one call."""
    stream = io.BytesIO(raw)
    stream.seek(132)
    try:
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        syntax = text(meta, "TransferSyntaxUID")
        if syntax != _DEFLATED or inflated_is_small(
            raw[stream.tell() :], max_bytes=limits.max_inflated_bytes
        ):
            return
    except Exception as error:
        raise SkipError("truncated", f"{type(error).__name__}: {error}") from error
    raise SkipError("too_large", "the deflated data set")


def _pixel_bytes(dataset: Dataset) -> bytes:
    """Return the value of ``PixelData``, or raise why this object has none to offer."""
    sop_class = text(dataset, "SOPClassUID")
    if sop_class in _LABEL_OBJECTS:
        raise SkipError("label_object", sop_class)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise SkipError("not_selected", "floating-point pixels")
    pixels = attribute(dataset, "PixelData")
    if isinstance(pixels, bytes):
        return pixels
    if "Rows" in dataset:
        raise SkipError("truncated", "an image without PixelData")
    if not sop_class:
        raise SkipError("missing_attribute", "neither SOPClassUID nor PixelData")
    raise SkipError("no_pixels", sop_class)


# --- its values --------------------------------------------------------------------------------


def _stored(words: npt.NDArray[Any], found: PixelFormat) -> npt.NDArray[Any]:
    """Return stored values; a codestream is already right-aligned, whatever ``HighBit`` says."""
    is_aligned = not found.is_native and found.transfer_syntax != _RLE
    return stored_values(
        words,
        bits_stored=found.bits_stored,
        high_bit=found.bits_stored - 1 if is_aligned else found.high_bit,
        is_signed=found.is_signed,
    )


def _colour_values(
    words: npt.NDArray[Any], found: PixelFormat
) -> tuple[npt.NDArray[np.float32], tuple[float, float], None]:
    bits = 8 if words.dtype.itemsize == 1 else found.bits_stored
    return words.astype(np.float32), (0.0, float((1 << bits) - 1)), None
