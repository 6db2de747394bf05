"""Which DICOM objects, in which encodings, we let a PACS send us over DIMSE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pynetdicom.presentation import PresentationContext, build_context

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SOP_CLASSES = tuple(
    _STORAGE + tail
    for tail in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, MG, IO
        *("2", "2.1", "4", "4.1", "128", "130", "20"),  # CT, MR, PT, NM
        *("7", "7.1", "7.2", "7.3", "7.4"),  # secondary capture
        *("12.1", "12.1.1", "12.2", "12.2.1"),  # XA, RF
        *("6.1", "3.1", "77.1.5.1", "77.1.5.2", "77.1.5.4"),  # US, ophthalmic
        *("66.4", "66.7", "481.3"),  # SEG, label map, RTSTRUCT
    )
)
"""Images and the objects that hold their masks."""

_BASE = "1.2.840.10008.1.2"
TRANSFER_SYNTAXES = (
    *(_BASE, f"{_BASE}.1", f"{_BASE}.1.99", f"{_BASE}.2", f"{_BASE}.5"),
    *(f"{_BASE}.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
)
"""All that the reader decodes: native, deflated, RLE, JPEG, JPEG-LS, JPEG 2000, HTJ2K."""

MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: odd identifiers from 1 to 255


def storage_contexts(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """Return one context for each pair of class and syntax, to be sent to us as it is stored.

    With several syntaxes in one context the other side would choose one and transcode to it.
    """
    return [
        build_context(sop_class, syntax)
        for sop_class in sop_classes
        for syntax in TRANSFER_SYNTAXES
    ]


def batches(sop_classes: Iterable[str], *, num_others: int) -> Iterator[tuple[str, ...]]:
    """Yield groups of SOP classes whose contexts fit into one association beside others."""
    size = (MAX_CONTEXTS - num_others) // len(TRANSFER_SYNTAXES)
    ordered = sorted(set(sop_classes))
    for start in range(0, len(ordered), size):
        yield tuple(ordered[start : start + size])
