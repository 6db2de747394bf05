"""What a reader gives for one file: an `Instance`, or a `Skip` with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

SKIP_REASONS: Mapping[str, str] = MappingProxyType(
    {
        # the file and its encoding, in the order in which they are looked for
        "outside_folder": "the table names a file outside its own folder",
        "missing_file": "the table names a file that is not there",
        "ambiguous_name": "several files have the name that the table gives",
        "unreadable_file": "the file could not be opened: check owner and access rights",
        "not_dicom": "not a DICOM file",
        "no_transfer_syntax": "the DICOM header does not say how the pixels are encoded",
        "truncated": "the file ends too early",
        "label_object": "a segmentation or structure set: labels, not an image",
        "no_pixels": "a DICOM object without pixels",
        "missing_attribute": "a DICOM attribute that describes the pixels is missing",
        "bad_attribute": "an attribute that describes the pixels has an impossible value",
        "not_an_image": "pixels that are not an image (dose), or an unknown kind of file",
        "too_large": "larger than the limits for one image",
        "transfer_syntax_unsupported": "no decoder is installed for this DICOM encoding",
        "codestream_mismatch": "the compressed image and its DICOM header disagree",
        "decode_failed": "the decoder could not read the pixels",
        # its values
        "no_rescale": "a CT without rescale values: its numbers have no unit",
        "raw_detector": "raw detector data (FOR PROCESSING)",
        "constant": "every pixel has the same value",
        "mosaic": "many slices tiled into one image by the vendor",
        "not_selected": "not one image: several frames, a localizer, or floating-point maps",
        "burned_in": "text is burnt into the pixels (BurnedInAnnotation = YES)",
        # the table of labels
        "no_label": "the row has no label, or -1",
        "bad_row": "the row has another number of fields than the table's head",
        "label_conflict": "the same file has two different labels",
        "unknown_split": "the row's split is none of train, val, test",
    }
)
"""Every reason to leave something out, as a stable code that may be counted, and its meaning."""

NOTES: Mapping[str, str] = MappingProxyType(
    {
        "no_file_meta": "read without a DICOM file header",
        "trailing_bytes": "more pixel bytes than pixels; the rest was ignored",
        "lossy": "the image was compressed with loss",
        "codestream_sign": "sign or precision of the compressed image follow the DICOM header",
        "lut_and_rescale": "both a lookup table and rescale values: the table was used",
        "inverted": "white is low: the values were turned over",
        "polarity_conflict": "PresentationLUTShape contradicts the photometric interpretation",
        "flipped": "turned to the usual display orientation",
        "orientation_assumed": "no PatientOrientation: taken as displayed",
        "reader_warning": "pydicom or Pillow warned about the file",
        "alpha_dropped": "the transparency of the image was ignored",
        "reduced_to_8_bits": "colour of 16 bits was read as 8 bits",
        "rotated": "turned as its EXIF tag says",
        "first_page": "only the first page of the file was read",
        "colour_to_grey": "a colour image was made grey (ITU-R 601 luma)",
        "grey_to_colour": "a grey image was repeated over three channels",
        "constant": "every pixel has the same value; kept, as its split was given",
        "duplicate_row": "the same file and label stand in the table more than once",
        "duplicate_image": "a copy of another image; joined with it into one subject",
        "duplicate_across_splits": "a copy of an image of another given split",
        "subject_across_splits": "a subject that stands in more than one given split",
        "split_column_ignored": "a column that looks like splits holds none of their names",
        "val_taken_from_train": "no validation cases were given: taken from training, by subject",
        "test_taken_from_train": "no test cases were given: taken from training, by subject",
        "encoding_assumed": "the table is not UTF-8: read as Windows-1252",
        "range_assumed": "the range of the values was taken from the values",
        "found_by_name": "found elsewhere below the folder, under its unique name",
    }
)
"""Every note about what was tolerated or changed, as a stable code, and its meaning."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused before any decoder runs, as ``too_large``.

    ``max_pixels`` is lower than the specification's 512 Mi for volumes: one radiograph has at
    most about 30 million pixels.
    """

    max_bytes: int = 1 << 31
    max_side: int = 65_535
    max_pixels: int = 1 << 27
    max_inflated_bytes: int = 1 << 29


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about an image, by allow-list: no name, date, identifier or free text."""

    modality: str
    manufacturer: str
    rows: int
    columns: int
    bits_stored: int
    photometric: str
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """One image as a reader gives it.

    Attributes:
        values: ``(row, column)`` or ``(row, column, 3)`` float32, in physical units where the
            file has them; light is high for projections.
        range: The lowest and highest value that the stored bits can give; lowest < highest.
        is_valid: ``(row, column)``, False where the file declares padding; None: all valid.
        facts: See `Facts`.
        notes: Stable codes of what was tolerated or changed; see ``NOTES``.
        cautions: Stable codes of ``SKIP_REASONS`` for which `unusable` refuses it as a case.
        subject: Digest of the patient's identifier, or empty. Stays at the site.
    """

    values: FloatArray
    range: tuple[float, float]
    facts: Facts
    is_valid: Mask | None = None
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    subject: str = ""

    @property
    def is_colour(self) -> bool:
        """Whether the image has three channels."""
        return self.values.ndim == 3


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Why a file gives no image.

    Attributes:
        reason: One of ``SKIP_REASONS``; may be counted and leave the site.
        detail: Path, tag, value: stays in the site's own log.
    """

    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.reason in SKIP_REASONS, self.reason


class SkipError(Exception):
    """Carries a `Skip` up through a reader; it never leaves `hospitium.imaging`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.skip = Skip(reason=reason, detail=detail)
        super().__init__(f"{reason}: {detail}")


def unusable(instance: Instance) -> Skip | None:
    """Return why a readable image is no training case, or None if it is one."""
    if instance.cautions:
        return Skip(reason=instance.cautions[0])
    if is_constant(instance):
        return Skip(reason="constant")
    return None


def is_constant(instance: Instance) -> bool:
    """Return whether all valid pixels are equal, or none is valid."""
    values = instance.values if instance.is_valid is None else instance.values[instance.is_valid]
    return values.size == 0 or bool(values.min() == values.max())
