"""What the conformance checks know of a site's data: a few numbers for each case, no pixels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hospitium.imaging.cases import Split
from hospitium.imaging.instance import Facts, Uids

MAX_DETAILS = 200
"""Of so many skips, at most, the site's own report names the file."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Values that a share of an image's valid pixels lie below, before or after harmonisation.

    Attributes:
        low: 1st percentile.
        middle: Median.
        high: 99th percentile.
    """

    low: float
    middle: float
    high: float

    @property
    def spread(self) -> float:
        """The range between the two percentiles."""
        return self.high - self.low


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """What is known about a case's mask.

    Attributes:
        reason: Why there is no usable mask, as a code of ``SKIP_REASONS``; empty for a mask.
        values: Labels other than background that stand in it.
        notes: Codes of ``NOTES``, from reading it and from putting it on the plan's grid.
        digest: SHA-256 of its labels.
    """

    reason: str = ""
    values: tuple[int, ...] = ()
    digest: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What is known about one case. It stays at the site.

    Attributes:
        name: File or series, as the site's staff know it.
        subject: Whose it is; equal for two cases of one person.
        split: Given or planned; None while nothing says.
        classes: Indices into the plan's classes: one for a class label, any number for a mask,
            none where the label is missing or not understood.
        facts: Allow-listed attributes of the header.
        shape: ``(row, column)`` or ``(i, j, k)``.
        spacing_mm: Along the axes of ``shape``; None where the file does not say.
        levels: Of the values as read.
        harmonised: Of the values after the plan's intensity step.
        digest: Equal for exactly equal pixels, whatever file they came in.
        hash: Of the picture; see `hospitium.imaging.image_hash`.
        thumbnail: ``THUMBNAIL x THUMBNAIL`` bytes, or empty beyond the number that is kept.
        lung_contrast: Mediastinum minus lung fields, as a share of the picture's contrast; None
            where no chest is expected.
        notes: Codes of ``NOTES``.
        mask: None where the plan needs none.
        uids: What the hospital calls it; tables of labels may.
    """

    name: str
    facts: Facts
    shape: tuple[int, ...]
    levels: Levels
    harmonised: Levels
    digest: str
    hash: int
    subject: str = ""
    split: Split | None = None
    classes: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    thumbnail: bytes = b""
    lung_contrast: float | None = None
    notes: tuple[str, ...] = ()
    mask: MaskFacts | None = None
    uids: Uids = field(default_factory=Uids)


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """How labels and images met.

    Attributes:
        problem: Why there are no labels at all; empty where there are.
        unknown_words: Labels that are none of the plan's classes, and how often each stands.
        num_rows: Rows of the table, or images of an NPZ file.
        num_unlabelled: Cases without a label that is understood.
        num_unmatched: Rows that name no image.
        has_splits: Whether the data bring their own splits.
    """

    problem: str = ""
    unknown_words: Mapping[str, int] = field(default_factory=dict)
    num_rows: int = 0
    num_unlabelled: int = 0
    num_unmatched: int = 0
    has_splits: bool = False


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All that was found at one site.

    Attributes:
        kind: ``"npz"``, ``"folder"`` or ``"volumes"``.
        cases: In an order that the same data always have.
        skipped: How many files, series or rows gave no case, by reason.
        details: Reason and file of the first ``MAX_DETAILS`` skips. They stay at the site.
        labels: How labels and images met.
        num_bytes: Size of everything that was read.
    """

    kind: str
    cases: tuple[CaseFacts, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    details: tuple[tuple[str, str], ...] = ()
    labels: LabelTable = field(default_factory=LabelTable)
    num_bytes: int = 0

    @property
    def notes(self) -> Counter[str]:
        """How many cases carry each note."""
        return Counter(note for case in self.cases for note in case.notes)

    @property
    def digest(self) -> str:
        """SHA-256 over the content of all cases, whatever their files are called."""
        total = hashlib.sha256()
        for digest in sorted(content_digest(case) for case in self.cases):
            total.update(bytes.fromhex(digest))
        return total.hexdigest()


def content_digest(case: CaseFacts) -> str:
    """Return 16 hexadecimal characters that change with a case's pixels, labels or mask."""
    content = f"{case.digest}|{case.classes}|{'' if case.mask is None else case.mask.digest}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]
