"""Encapsulated pixels -> the bytes of each compressed frame (PS3.5 A.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from hospitium.imaging.elements import Elements
from hospitium.imaging.instance import SkipError

Span: TypeAlias = tuple[int, int]
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_MAX_FRAGMENTS = 20_000
_FRAGMENTS_PER_FRAME = 16
_EXTENDED_OFFSETS = 0x7FE00001
_JPEG_END = b"\xff\xd9"


def compressed_frames(
    elements: Elements, *, begin: int, end: int, num_frames: int
) -> Iterator[bytes]:
    """Yield the bytes of each frame, of as many as the header declares.

    Args:
        elements: Of the object; encapsulated pixels are little endian.
        begin: Of the value of ``PixelData``.
        end: Of that value; -1 if it ends with a delimiter.
        num_frames: ``NumberOfFrames``.

    Raises:
        SkipError: ``truncated``, ``too_large``; before the first frame is yielded.
    """
    raw = elements.walker.raw
    most = _MAX_FRAGMENTS + _FRAGMENTS_PER_FRAME * num_frames
    spans = _spans(raw, begin, end, most=most)
    if not spans:
        raise SkipError("truncated", "no fragment")
    table, *fragments = spans
    groups = _grouped(raw, fragments, _offsets(elements, table), num_frames=num_frames)
    if len(groups) < num_frames:
        raise SkipError("truncated", f"{len(groups)} frames of {num_frames}")
    for group in groups[:num_frames]:
        yield b"".join(raw[start:stop] for start, stop in group)


def _spans(raw: bytes, at: int, end: int, *, most: int) -> list[Span]:
    """Return begin and end of each fragment's value; the first is the basic offset table."""
    found: list[Span] = []
    stop = len(raw) if end < 0 else min(end, len(raw))
    while at + 8 <= stop:
        group, element, length = struct.unpack_from("<HHL", raw, at)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return found
        if tag != _ITEM or at + 8 + length > stop:
            raise SkipError("truncated", "a fragment ends early")
        found.append((at + 8, at + 8 + length))
        at += 8 + length
        if len(found) > most:
            raise SkipError("too_large", f"more than {most} fragments")
    if end < 0:
        raise SkipError("truncated", "no end of the encapsulated pixels")
    return found


def _offsets(elements: Elements, table: Span) -> Sequence[int]:
    """Return the offset of each frame from the first fragment's item, none where it is not told."""
    raw = elements.walker.raw
    if _EXTENDED_OFFSETS in elements.places:
        _, begin, end = elements.places[_EXTENDED_OFFSETS]
        count, kind = (min(end, len(raw)) - begin) // 8, "Q"
    else:
        begin, count, kind = table[0], (table[1] - table[0]) // 4, "L"
    return struct.unpack_from(f"<{count}{kind}", raw, begin)


def _grouped(
    raw: bytes, fragments: Sequence[Span], offsets: Sequence[int], *, num_frames: int
) -> list[list[Span]]:
    """Return the fragments of each frame."""
    if num_frames == 1:
        return [list(fragments)] if fragments else []
    if len(fragments) == num_frames:
        return [[span] for span in fragments]
    if len(offsets) == num_frames and fragments:
        first = fragments[0][0] - 8
        starts = {first + offset for offset in offsets}
        return _split(fragments, [span[0] - 8 in starts for span in fragments])
    ends = [raw[max(start, stop - 10) : stop].rfind(_JPEG_END) >= 0 for start, stop in fragments]
    return _split(fragments, [True, *ends[:-1]] if fragments else [])


def _split(fragments: Sequence[Span], is_first: Sequence[bool]) -> list[list[Span]]:
    """Return the fragments in groups that begin where a fragment is the first of a frame."""
    groups: list[list[Span]] = []
    for span, begins in zip(fragments, is_first, strict=True):
        if begins:
            groups.append([span])
        elif groups:
            groups[-1].append(span)
    return groups
