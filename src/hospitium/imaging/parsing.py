"""A DICOM file's bytes -> its elements and transfer syntax; nothing is guessed into an image."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from pydicom.uid import UID_dictionary

from hospitium.imaging.elements import Elements
from hospitium.imaging.instance import Limits, SkipError
from hospitium.imaging.walking import MAX_ELEMENTS, EndOfBytesError, Walker

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_PREFIX_END = 132
_SURE_OF_RATIO = 1 << 20  # inflated bytes from which a ratio means something


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsed:
    """A data set up to its pixels, the syntax it is in, and notes."""

    elements: Elements
    transfer_syntax: str
    notes: tuple[str, ...] = ()


def parse(raw: bytes, *, limits: Limits, max_elements: int = MAX_ELEMENTS) -> Parsed:
    """Find the elements of a file; with or without preamble and meta information (PS3.10 7.1).

    Args:
        raw: The file.
        limits: What is too large.
        max_elements: How many may be walked to find where the data set's own elements end.

    Raises:
        SkipError: ``not_dicom``, ``no_transfer_syntax``, ``truncated``, ``too_large``.
    """
    if raw[128:_PREFIX_END] == b"DICM":
        return _parse_part_10(raw, limits=limits, max_elements=max_elements)
    try:
        found = _parse_bare(raw, max_elements=max_elements)
        sop_class = found.elements.text("SOPClassUID")
    except SkipError as error:
        if error.skip.reason == "too_large":
            raise
        raise SkipError("not_dicom", f"no DICM prefix; {error.skip.detail}") from error
    if UID_dictionary.get(sop_class, ("", ""))[1] != "SOP Class":
        raise SkipError("not_dicom", "no DICM prefix and no known SOPClassUID")
    return found


def _parse_part_10(raw: bytes, *, limits: Limits, max_elements: int) -> Parsed:
    """Parse a file with a DICM prefix."""
    walker = Walker(raw=raw)
    meta, at = walker.group_two(_PREFIX_END)
    syntax = Elements(walker=walker, places=meta).text("TransferSyntaxUID")
    if not syntax:
        raise SkipError("no_transfer_syntax", "no TransferSyntaxUID")
    if syntax == DEFLATED:
        raw, at = _inflated(raw[at:], limits=limits), 0
    return _parse_from(raw, at, syntax, max_elements=max_elements)


def _parse_bare(raw: bytes, *, max_elements: int) -> Parsed:
    """Parse a file that begins with its first element."""
    walker = Walker(raw=raw)
    meta, at = walker.group_two(0)
    syntax = Elements(walker=walker, places=meta).text("TransferSyntaxUID")
    if not syntax:
        is_big = walker.has_vr(at) and raw[at : at + 1] == b"\0"
        syntax = EXPLICIT if walker.has_vr(at) else IMPLICIT
        syntax = BIG_ENDIAN if is_big else syntax
    found = _parse_from(raw, at, syntax, max_elements=max_elements)
    return Parsed(
        elements=found.elements,
        transfer_syntax=found.transfer_syntax,
        notes=("no_file_meta", *found.notes),
    )


def _parse_from(raw: bytes, at: int, syntax: str, *, max_elements: int) -> Parsed:
    """Parse the data set that begins at ``at``; the first element tells whether VRs are there.

    Where that is not as the transfer syntax says, what is found is right: some writers name one
    syntax and write the other.
    """
    walker = Walker(raw=raw, is_big=syntax == BIG_ENDIAN, budget=max_elements)
    is_implicit = not walker.has_vr(at)
    places = walker.data_set(at, len(raw), is_implicit=is_implicit)
    if not places:
        raise EndOfBytesError("no element after the meta information")
    notes = () if is_implicit == (syntax == IMPLICIT) else ("reader_warning",)
    return Parsed(
        elements=Elements(walker=walker, places=places), transfer_syntax=syntax, notes=notes
    )


def _inflated(deflated: bytes, *, limits: Limits) -> bytes:
    """Return what a raw deflate stream holds, once it is known to fit (PS3.5 A.5)."""
    try:
        size = _inflated_size(deflated, limits=limits)
        result = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, size)
    except zlib.error as error:
        raise SkipError("truncated", f"deflated data set: {error}") from error
    return result


def _inflated_size(deflated: bytes, *, limits: Limits) -> int:
    """Return how many bytes a stream inflates to, without keeping them."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, deflated
    while pending and not inflater.eof:
        total += len(inflater.decompress(pending, 1 << 20))
        pending = inflater.unconsumed_tail
        ratio = total / (len(deflated) - len(pending) + 1)
        if total > limits.max_inflated_bytes:
            raise SkipError("too_large", f"inflates to more than {limits.max_inflated_bytes} bytes")
        if total > _SURE_OF_RATIO and ratio > limits.max_inflate_ratio:
            raise SkipError("too_large", f"inflates to {ratio:.0f} times its size")
    if not inflater.eof:
        raise SkipError("truncated", "the deflated data set ends early")
    return total
