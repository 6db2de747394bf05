"""The fields of a data fingerprint: what each counts, in which bins, and what that means in words.

Every field has a fixed set of cells, the same at every site, so that histograms add up cell by
cell. Each subject gives exactly one vote in each field; where a value is unknown or has no meaning
the vote goes to the cell ``none``.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from hospitium.imaging.minimise import MODALITIES, vendor

NONE = "none"
"""The cell of subjects for whom a field has no value."""

EMPTY = "empty"
"""The cell of subjects whose mask has no voxel of a label."""

OTHER = "other"
"""The cell for names that are not on a list, and for those that too few subjects share."""

MAX_CLASSES = 64
MAX_LABELS = 25
CLASS_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
"""What a class may be called; the names come from the plan, or from the site's own table."""

QUANTILES = (0.5, 25.0, 50.0, 75.0, 99.5)
"""The percentiles of an image's foreground that are counted."""

HU = (-1100.0, 3100.0)
NUM_BINS = 32
NUM_INTENSITY_BINS = 64


@dataclass(frozen=True, kw_only=True)
class Field:
    """One histogram of a fingerprint.

    Attributes:
        name: Its stable name.
        words: What it says about a subject, for the person who lets it leave.
        unit: Of the edges.
        edges: Of ordered bins, ascending; values beyond count in the first or the last bin.
        names: Of unordered cells.
        is_log: Whether the bins are equal in the logarithm.
    """

    name: str
    words: str
    unit: str = ""
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    is_log: bool = False

    @property
    def is_ordered(self) -> bool:
        """Whether the cells are bins ``"0"``, ``"1"``, … of a scale."""
        return bool(self.edges)

    @property
    def num_bins(self) -> int:
        """How many ordered bins there are; 0 for names."""
        return max(0, len(self.edges) - 1)

    def cell(self, value: float | str | None) -> str:
        """Return the cell of a value; None, NaN and the empty text belong to ``none``."""
        if value is None or value == "" or value == EMPTY:
            return EMPTY if value == EMPTY and EMPTY in self.names else NONE
        if isinstance(value, str):
            return value if self._is_name(value) else OTHER
        if math.isnan(value):
            return NONE
        return str(min(max(bisect_right(self.edges, value) - 1, 0), self.num_bins - 1))

    def has(self, cell: str) -> bool:
        """Return whether this is one of the field's cells."""
        if cell in (NONE, OTHER):
            return True
        if self.is_ordered and cell not in self.names:
            return re.fullmatch("0|[1-9][0-9]?", cell) is not None and int(cell) < self.num_bins
        return self._is_name(cell)

    def _is_name(self, text: str) -> bool:
        if self.name == "manufacturer":
            return vendor(text) == text
        return text in self.names if self.names else CLASS_NAME.fullmatch(text) is not None

    def centre(self, cell: str) -> float:
        """Return the middle of an ordered bin, in the field's unit."""
        return self.inside(int(cell), 0.5)

    def inside(self, index: int, part: float) -> float:
        """Return the point at this part (0 to 1) of a bin, on the field's own scale."""
        low, high = self.edges[index], self.edges[index + 1]
        return low * (high / low) ** part if self.is_log else low + (high - low) * part

    def say(self, cell: str) -> str:
        """Return a cell as people read it: a name, or the ends of a bin with the unit."""
        if not self.is_ordered or not cell.isdigit():
            return cell
        index, unit = int(cell), f" {self.unit}" if self.unit else ""
        low, high = (f"{edge:.3g}" for edge in self.edges[index : index + 2])
        if index == 0:
            return f"below {high}{unit}"
        return f"{low} or more{unit}" if index == self.num_bins - 1 else f"{low} to {high}{unit}"


def _log_edges(*, first: float, factor: float, count: int) -> tuple[float, ...]:
    """Return the edges of bins whose centres are ``first``, ``first * factor``, …"""
    return tuple(float(f"{first * factor ** (n - 0.5):.6g}") for n in range(count + 1))


def _even_edges(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * n / count for n in range(count + 1))


_SPACING = _log_edges(first=10**-1.28, factor=10**0.08, count=NUM_BINS)  # 1 mm is a centre
_MATRIX = _log_edges(first=8, factor=2 ** (1 / 3), count=NUM_BINS)  # 512 is a centre
_SCALE = _log_edges(first=0.1, factor=10**0.25, count=NUM_BINS)
_VOLUME = _log_edges(first=0.01, factor=10 ** (6 / 31), count=NUM_BINS)
_HU_EDGES = _even_edges(*HU, NUM_INTENSITY_BINS)
_UNIT_EDGES = _even_edges(0.0, 1.0, NUM_INTENSITY_BINS)
_AXES = ("first (rows, or left-right)", "second (columns, or back-front)", "third (slices)")

AGE_BANDS = (*(f"{low}-{low + 9}" for low in range(0, 90, 10)), "90+")
FIELD_STRENGTHS = ("below 1 T", "1 T", "1.5 T", "3 T", "7 T")
_YES_NO = ("yes", "no")


def _fields() -> tuple[Field, ...]:
    fields = [
        *(
            Field(
                name=f"spacing_mm.{axis}",
                words=f"distance of pixels along the {words} axis",
                unit="mm",
                edges=_SPACING,
                is_log=True,
            )
            for axis, words in enumerate(_AXES)
        ),
        *(
            Field(
                name=f"matrix.{axis}",
                words=f"number of pixels along the {words} axis",
                unit="pixels",
                edges=_MATRIX,
                is_log=True,
            )
            for axis, words in enumerate(_AXES)
        ),
        *(
            Field(
                name=f"hu.p{percent:g}",
                words=f"CT: percentile {percent:g} of the foreground",
                unit="HU",
                edges=_HU_EDGES,
            )
            for percent in QUANTILES
        ),
        *(
            Field(
                name=f"intensity.p{percent:g}",
                words=f"not CT: percentile {percent:g} of the foreground, where 0 and 1 are the "
                "image's percentiles 1 and 99",
                edges=_UNIT_EDGES,
            )
            for percent in QUANTILES
        ),
        Field(
            name="scale",
            words="not CT: percentile 99 of the image's values as they are in the file",
            edges=_SCALE,
            is_log=True,
        ),
        Field(
            name="foreground",
            words="share of the image that is foreground: in a mask, else above Otsu's threshold",
            edges=_even_edges(0.0, 1.0, 20),
        ),
        *(
            Field(name=name, words=words, names=names)
            for name, (words, names) in _NAMED.items()
        ),
        Field(name="class", words="the label that most of the subject's images have"),
    ]  # fmt: skip
    return tuple(fields)


_NAMED: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "modality": (
            "kind of examination (DICOM Modality)",
            tuple(sorted(MODALITIES - {""})),
        ),
        "colour": ("whether images are in colour", _YES_NO),
        "bits": (
            "bits of a pixel as stored",
            ("8", "9", "10", "11", "12", "13", "14", "15", "16", "32", "64"),
        ),
        "lossy": ("whether images were compressed with loss", _YES_NO),
        "spacing_kind": (
            "what the spacing of a projection means",
            ("calibrated", "detector", "scanned", "undeclared"),
        ),
        "monochrome1": ("whether white is low in the file (MONOCHROME1)", _YES_NO),
        "manufacturer": ("maker of the scanner, from a fixed list", ()),
        "field_strength": ("MR: field strength", FIELD_STRENGTHS),
        "kvp": ("X-ray and CT: tube voltage", tuple(f"{low} kV" for low in range(20, 160, 20))),
        "age_band": ("age of the person in bands of ten years", AGE_BANDS),
        "sex": ("sex of the person (DICOM PatientSex)", ("F", "M", "O")),
    }
)

FIELDS: Mapping[str, Field] = MappingProxyType({field.name: field for field in _fields()})
"""Every field, by its name, but for those of the labels of masks: see `field_of`."""

_MASK_FIELD = re.compile(r"mask_volume_ml\.([1-9][0-9]?)", re.ASCII)


def mask_field(label: int) -> str:
    """Return the name of the field that counts the volume of one label of the masks."""
    return f"mask_volume_ml.{label}"


@cache
def field_of(name: str) -> Field | None:
    """Return a field by its name, None if there is none of this name."""
    if name in FIELDS:
        return FIELDS[name]
    found = _MASK_FIELD.fullmatch(name)
    if found is None or int(found[1]) > MAX_LABELS:
        return None
    return Field(
        name=name,
        words=f"volume of label {found[1]} in the masks",
        unit="ml",
        edges=_VOLUME,
        names=(EMPTY,),
        is_log=True,
    )


def field_strength_name(tesla: float | None) -> str:
    """Return the listed name of a field strength; some files give gauss."""
    if tesla is None or not tesla > 0:
        return ""
    tesla = tesla / 10_000 if tesla > 100 else tesla
    for low, high, name in ((0, 0.95, 0), (0.95, 1.25, 1), (1.25, 2, 2), (2.7, 3.3, 3), (6, 8, 4)):
        if low <= tesla < high:
            return FIELD_STRENGTHS[name]
    return OTHER


def kvp_name(kilovolt: float | None) -> str:
    """Return the listed name of a tube voltage: the multiple of 20 kV at or below it."""
    if kilovolt is None or not kilovolt > 0:
        return ""
    return f"{int(kilovolt // 20) * 20} kV" if 20 <= kilovolt < 160 else OTHER


# --- reading a histogram -------------------------------------------------------------------------


def quantile(field: Field, counts: Mapping[str, int], share: float) -> float | None:
    """Return a quantile of an ordered histogram, interpolated inside of its bin.

    Args:
        field: An ordered field.
        counts: Subjects in each cell; ``none`` and names are left out.
        share: 0 to 1.

    Returns:
        A value in the field's unit, None where no subject has one.
    """
    bins = _bins(field, counts)
    total = sum(bins)
    if total == 0:
        return None
    wanted, below = share * total, 0
    for index, count in enumerate(bins):
        if count and below + count >= wanted:
            return field.inside(index, (wanted - below) / count)
        below += count
    raise AssertionError("the counts do not add up")


def quantile_bin(field: Field, counts: Mapping[str, int], share: float) -> float | None:
    """Return the centre of the bin that holds a quantile, None where no subject has a value."""
    bins = _bins(field, counts)
    total, below = sum(bins), 0
    for index, count in enumerate(bins):
        below += count
        if count and below >= share * total:
            return field.inside(index, 0.5)
    return None


def _bins(field: Field, counts: Mapping[str, int]) -> Sequence[int]:
    assert field.is_ordered, field.name
    return [counts.get(str(index), 0) for index in range(field.num_bins)]
