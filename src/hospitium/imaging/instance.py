"""What a reader gives for one file: an `Instance`, or a `Skip` with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
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
        "not_selected": "not what the plan selects: modality, body part, view, localizer, map",
        "secondary_capture": "a secondary capture or screenshot, which the plan does not allow",
        "burned_in": "text is burnt into the pixels (BurnedInAnnotation = YES)",
        "colour_not_in_plan": "a colour image in a plan of grey images",
        "lossy_not_in_plan": "compressed with loss, which the plan does not allow",
        "spacing_not_in_plan": "the plan needs a kind of pixel spacing that this image has not",
        # its identity
        "uid_missing": "no study or series UID tells what belongs together",
        "uid_conflict": "several different images share one SOPInstanceUID",
        "no_patient": "no PatientID tells whose image it is, and the plan protects each patient",
        # its place in space
        "no_geometry": "no position, orientation or spacing in a plan of volumes",
        "missing_slice": "a slice of the volume is missing",
        "uneven_spacing": "slices more than 10 % off an even distance",
        "ambiguous_stack": "several stacks of slices at one place, and the plan selects none",
        "too_few_slices": "fewer slices than the plan needs",
        "empty_study": "the PACS answered with a study without images",
        # its mask
        "mask_geometry": "the mask is not on the image's grid, or not of its frame of reference",
        "mask_values": "the mask holds a label that the plan does not name, or no whole numbers",
        "mask_missing": "the plan needs a mask, and there is none",
        "mask_empty": "the mask is empty, and the plan does not say that this means negative",
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
        "duplicate_instance": "a copy of an image with the same SOPInstanceUID; one was kept",
        "no_instance_uid": "no SOPInstanceUID: the digest of the file serves",
        "duplicate_position": "two equal slices at one position; one was kept",
        "uneven_slices": "slices 1 to 10 % off an even distance; resampled from true positions",
        "tilt": "a sheared grid (gantry tilt), resampled to an orthogonal one",
        "window_ignored": "a window of illegal width was ignored",
        "burned_in_unknown": "the header does not say whether text is burnt into the pixels",
        "not_finite": "voxels that are no finite number were left out",
        "mask_overlap": "two structures of the mask overlap: the one named later counts",
        "mask_shrunk": "the mask's volume changed by more than 5 % on the plan's grid",
        "fractional": "a fractional segmentation was cut at the plan's threshold",
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

    Attributes:
        max_bytes: Of a file.
        max_side: Rows or columns.
        max_pixels: Of all frames of an object together.
        max_frames: Of an object.
        max_inflated_bytes: Of a deflated data set.
        max_inflate_ratio: Bytes after against before decompression, of a data set, or of an image
            of more than ``max_blank_pixels``. Small images may be blank, and so compress better.
        max_blank_pixels: See there.
    """

    max_bytes: int = 1 << 31
    max_side: int = 65_535
    max_pixels: int = 1 << 29
    max_frames: int = 8192
    max_inflated_bytes: int = 1 << 29
    max_inflate_ratio: int = 1000
    max_blank_pixels: int = 1 << 24

    def is_bomb(self, *, num_pixels: int, num_bytes: int, stored_bytes: int) -> bool:
        """Return whether so few stored bytes cannot honestly hold so many pixels and bytes."""
        is_large = num_pixels > self.max_blank_pixels
        return is_large and num_bytes > self.max_inflate_ratio * stored_bytes


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about an image, by allow-list: no name, date, identifier or free text.

    Attributes:
        spacing_kind: ``calibrated``, ``detector``, ``scanned`` or ``none`` (PS3.3 10.7.1.1 to
            .3); empty where the image is no projection.
        age_band: Ten-year band of the patient's age, ``"60-69"``; 90 and over is one band.
    """

    modality: str
    manufacturer: str
    rows: int
    columns: int
    bits_stored: int
    photometric: str
    spacing_mm: tuple[float, float] | None
    frames: int = 1
    sop_class: str = ""
    transfer_syntax: str = ""
    model: str = ""
    image_type: tuple[str, ...] = ()
    intent: str = ""
    body_part: str = ""
    view: str = ""
    laterality: str = ""
    patient_position: str = ""
    patient_orientation: str = ""
    spacing_kind: str = ""
    is_lossy: bool = False
    burned_in: str = ""
    kernel: str = ""
    kvp: float | None = None
    field_strength: float | None = None
    echo_time: float | None = None
    repetition_time: float | None = None
    scanning_sequence: str = ""
    b_value: float | None = None
    temporal_position: int | None = None
    acquisition_number: int | None = None
    has_contrast: bool | None = None
    sex: str = ""
    age_band: str = ""


@dataclass(frozen=True, kw_only=True)
class Uids:
    """What an image is called in the hospital. Stays at the site, in memory and its own index."""

    study: str = ""
    series: str = ""
    instance: str = ""
    frame_of_reference: str = ""
    patient: str = ""
    issuer: str = ""
    accession: str = ""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where one frame lies in the patient, in DICOM's LPS coordinates (PS3.3 C.7.6.2.1.1).

    Attributes:
        position_mm: Centre of the first pixel.
        orientation: Direction of a row (x, y, z), then of a column.
        spacing_mm: Distance between rows, between columns.
    """

    position_mm: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a plan may ask of the reader; by default values are as the standard's step 3 gives.

    Attributes:
        apply_voi: Apply the VOI lookup table or window of CR, DX and MG, to [0, 1].
        take_raw: Read detector data (FOR PROCESSING), its polarity by the header's sign.
        take_maps: Read floating-point pixels (parametric maps).
    """

    apply_voi: bool = False
    take_raw: bool = False
    take_maps: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """One image object, of one or more frames, as a reader gives it.

    Attributes:
        values: ``(frame, row, column)`` float32, in physical units where the file has them,
            light is high for projections; or ``(frame, row, column, 3)`` uint8 RGB.
        range: The lowest and highest value that the stored bits can give; lowest < highest.
        is_valid: ``(frame, row, column)``, False where the file declares padding; None: all
            valid.
        facts: See `Facts`.
        uids: See `Uids`. They stay at the site.
        placements: One for each frame; None where the file does not give them all.
        digest: SHA-256 of the file's bytes as received, in hex.
        notes: Stable codes of what was tolerated or changed; see ``NOTES``.
        cautions: Stable codes of ``SKIP_REASONS`` for which `unusable` refuses it as a case.
    """

    values: Values
    range: tuple[float, float]
    facts: Facts
    is_valid: Mask | None = None
    uids: Uids = field(default_factory=Uids)
    placements: tuple[Placement, ...] | None = None
    digest: str = ""
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def is_colour(self) -> bool:
        """Whether the image has three channels."""
        return self.values.ndim == 4

    @property
    def num_frames(self) -> int:
        """How many frames it has."""
        return len(self.values)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of an image object without its pixels; see `Instance` for each attribute."""

    facts: Facts
    uids: Uids
    placements: tuple[Placement, ...] | None
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


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


def unusable(cautions: Sequence[str], *, is_constant: bool) -> Skip | None:
    """Return why a readable image is no training case, or None if it is one."""
    if cautions:
        return Skip(reason=cautions[0])
    return Skip(reason="constant") if is_constant else None


def is_constant(instance: Instance) -> bool:
    """Return whether all valid pixels are equal, or none is valid."""
    values = instance.values if instance.is_valid is None else instance.values[instance.is_valid]
    return values.size == 0 or bool(values.min() == values.max())
