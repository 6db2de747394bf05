"""What a DICOM header says about an image: its value chain, orientation, facts and cautions."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from pydicom.dataset import Dataset

from hospitium.imaging.attributes import attribute, integer, number, spacing_mm, text
from hospitium.imaging.decoding import PixelFormat
from hospitium.imaging.instance import Facts, FloatArray, Mask, SkipError
from hospitium.imaging.values import Chain, Lookup

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PROJECTIONS = frozenset({"CR", "DX", "MG", "IO", "RG", "XA", "RF"})
Displayed: TypeAlias = tuple[FloatArray, Mask | None, tuple[str, ...]]


def chain(dataset: Dataset, found: PixelFormat) -> tuple[Chain, tuple[str, ...]]:
    """Read the value chain of a grey image from its header, with notes.

    Raises:
        SkipError: ``bad_attribute`` or ``no_rescale``.
    """
    modality = text(dataset, "Modality")
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    lookup = _lookup(dataset, found)
    notes: tuple[str, ...] = ("lut_and_rescale",) if lookup and slope is not None else ()
    if slope == 0:
        raise SkipError("bad_attribute", "RescaleSlope = 0")
    if modality == "CT" and lookup is None and (slope is None or intercept is None):
        raise SkipError("no_rescale", "CT")
    is_inverted = found.photometric == "MONOCHROME1" and _is_projection(dataset)
    if is_inverted:
        notes += ("inverted",)
    if text(dataset, "PresentationLUTShape") == "INVERSE" and found.photometric == "MONOCHROME2":
        notes += ("polarity_conflict",)
    chain = Chain(
        bits_stored=found.bits_stored,
        is_signed=found.is_signed,
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        lookup=lookup,
        padding=_padding(dataset, found),
        is_inverted=is_inverted,
        is_ct=modality == "CT",
    )
    return chain, notes


def _is_projection(dataset: Dataset) -> bool:
    """Return whether MONOCHROME1 is about the values, not only a hint for the display."""
    is_capture = text(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE)
    return is_capture or text(dataset, "Modality") in _PROJECTIONS


def _padding(dataset: Dataset, found: PixelFormat) -> tuple[int, int] | None:
    """Return the inclusive range of stored values that are padding (PS3.3 C.7.5.1.1.2)."""
    if attribute(dataset, "PixelPaddingValue") is None:
        return None
    first = integer(dataset, "PixelPaddingValue")
    last = integer(dataset, "PixelPaddingRangeLimit", default=first)
    if found.is_signed:  # some writers give the bits of a negative value as unsigned
        first, last = (v - 65_536 if v >= 32_768 else v for v in (first, last))
    return min(first, last), max(first, last)


def _lookup(dataset: Dataset, found: PixelFormat) -> Lookup | None:
    """Return the modality lookup table, None where there is none (PS3.3 C.11.1)."""
    sequence = attribute(dataset, "ModalityLUTSequence")
    if not sequence:
        return None
    descriptor = attribute(sequence[0], "LUTDescriptor")
    data = attribute(sequence[0], "LUTData")
    try:
        num_entries, first, bits = (int(part) for part in descriptor)
        order = "<" if dataset.original_encoding[1] else ">"
        entries = (
            np.frombuffer(data, f"{order}u2") if isinstance(data, bytes) else np.asarray(data)
        ).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SkipError("bad_attribute", f"modality LUT: {error}") from error
    num_entries = num_entries or 65_536
    if entries.shape != (num_entries,) or not 1 <= bits <= 16:
        raise SkipError("bad_attribute", f"modality LUT: {entries.shape} of {num_entries} entries")
    if found.is_signed and first >= 32_768:
        first -= 65_536
    return Lookup(first=first, entries=entries)


def as_displayed(values: FloatArray, valid: Mask | None, dataset: Dataset) -> Displayed:
    """Turn a frontal projection so that the patient's right is at the image's left.

    Returns:
        Values, where they are valid, and notes: ``flipped`` or ``orientation_assumed``.
    """
    if not _is_projection(dataset):
        return values, valid, ()
    across, _, down = text(dataset, "PatientOrientation").partition("\\")
    if not across or not down:
        return values, valid, ("orientation_assumed",)
    rows = -1 if down.startswith("H") else 1
    columns = -1 if across.startswith("R") else 1
    if not across.startswith(("R", "L")) or rows == columns == 1:
        return values, valid, ()
    flip = (slice(None, None, rows), slice(None, None, columns))
    turned = np.ascontiguousarray(values[flip])
    return turned, None if valid is None else np.ascontiguousarray(valid[flip]), ("flipped",)


def facts(dataset: Dataset, found: PixelFormat) -> Facts:
    """Return the allow-listed facts; nothing else is copied from a header."""
    return Facts(
        modality=text(dataset, "Modality")[:16],
        manufacturer=text(dataset, "Manufacturer")[:64],
        rows=found.rows,
        columns=found.columns,
        bits_stored=found.bits_stored,
        photometric=found.photometric,
        spacing_mm=spacing_mm(dataset),
    )


def cautions(dataset: Dataset) -> tuple[str, ...]:
    """Return why this image is no training case, though it can be read; in the order of checks."""
    image_type = text(dataset, "ImageType").upper().split("\\")
    checks = {
        "raw_detector": text(dataset, "PresentationIntentType") == "FOR PROCESSING",
        "mosaic": "MOSAIC" in image_type,
        "not_selected": "LOCALIZER" in image_type,
        "burned_in": text(dataset, "BurnedInAnnotation") == "YES",
    }
    return tuple(code for code, applies in checks.items() if applies)


def subject(dataset: Dataset) -> str:
    """Return a digest of issuer and patient identifier, empty where there is none.

    It only tells which images are of one person. The keyed identifier of the specification
    takes its place when a site has a key.
    """
    patient = text(dataset, "PatientID").casefold()
    if not patient:
        return ""
    issuer = text(dataset, "IssuerOfPatientID").casefold()
    return hashlib.sha256(f"{issuer}\0{patient}".encode()).hexdigest()[:26]
