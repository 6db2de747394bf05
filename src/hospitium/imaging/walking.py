"""Walks the elements of a DICOM data set without copying a value, within bounds of count and depth.

Only where elements begin and end is found here (PS3.5 7.1, 7.5). Sequences are stepped over; an
item is walked when somebody asks for it. Damage and bombs cost a `SkipError`, never the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TypeAlias

from hospitium.imaging.instance import SkipError

Place: TypeAlias = tuple[bytes | None, int, int]
"""VR (None: implicit), begin and end of a value in the file's bytes; end -1: undefined length."""

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
UNDEFINED = -1
_MAX_DEPTH = 16
MAX_ELEMENTS = 20_000
_ELEMENTS_PER_FRAME, _MAX_FOR_FRAMES = 256, 1 << 20
_VISITS = 4  # of an element by those who ask for its sequence, after the first walk
_NUMBER_OF_FRAMES, _PER_FRAME_GROUPS = 0x00280008, 0x52009230
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_WITH_SHORT_LENGTH = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_WITH_LONG_LENGTH = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_NO_LENGTH = 0xFFFFFFFF
_LITTLE = (Struct("<HH2sH").unpack_from, Struct("<HHL").unpack_from, Struct("<L").unpack_from)
_BIG = (Struct(">HH2sH").unpack_from, Struct(">HHL").unpack_from, Struct(">L").unpack_from)


class EndOfBytesError(SkipError):
    """An element goes on after the last byte: ``truncated``, unless there is more of the file."""

    def __init__(self, detail: str) -> None:
        super().__init__("truncated", detail)


@dataclass(kw_only=True)
class Walker:
    """Walks data sets of one file; the elements met in all of them together are bounded.

    Attributes:
        raw: The bytes in which places are.
        is_big: Big endian.
        budget: How many more elements may be met; functional groups of frames add to it.
    """

    raw: bytes
    is_big: bool = False
    budget: int = field(default=MAX_ELEMENTS)

    def data_set(self, at: int, end: int, *, is_implicit: bool, depth: int = 0) -> dict[int, Place]:
        """Return the place of each element, by tag, of a data set that begins at ``at``.

        It ends at ``end``, at an item delimiter, or with the pixels, behind which nothing is
        looked at: their place may reach beyond the bytes. Of equal tags the last counts.

        Raises:
            SkipError: ``truncated``, or ``too_large`` beyond the bounds.
        """
        places = self._walk(at, end, is_implicit=is_implicit, depth=depth, keep=True)[0]
        if depth == 0:
            self.budget = _VISITS * (MAX_ELEMENTS + self._for_frames(places))
        return places

    def group_two(self, at: int) -> tuple[dict[int, Place], int]:
        """Return the places of the file meta information that begins at ``at``, and its end.

        Its declared length is not trusted: it ends with the last element of group 2 (PS3.10 7.1).
        """
        explicit, implicit, long = _LITTLE
        places = dict[int, Place]()
        while self.raw[at : at + 2] == b"\2\0" and at + 12 <= len(self.raw):
            self._spend(1)
            group, element, vr, length = explicit(self.raw, at)
            at += 8
            if vr in _WITH_LONG_LENGTH:
                (length,) = long(self.raw, at)
                at += 4
            elif vr not in _WITH_SHORT_LENGTH:
                vr, length = None, implicit(self.raw, at - 8)[2]
            places[group << 16 | element] = vr, at, at + length
            at += length
            if at > len(self.raw):
                raise EndOfBytesError("the file meta information ends early")
        return places, at

    def is_implicit_item(self, vr: bytes | None, at: int) -> bool:
        """Return whether an item that begins at ``at``, of a sequence of this VR, is implicit.

        One of unknown VR is (PS3.5 6.2.2), but some writers leave it explicit.
        """
        return vr is None or (vr == b"UN" and not self.has_vr(at))

    def has_vr(self, at: int) -> bool:
        """Return whether the element that begins at ``at`` looks as if it had an explicit VR."""
        letters = self.raw[at + 4 : at + 6]
        return letters in _WITH_SHORT_LENGTH or letters in _WITH_LONG_LENGTH

    def items(self, place: Place, *, depth: int) -> list[tuple[int, int]]:
        """Return begin and end of each item of a sequence's value.

        Raises:
            SkipError: ``truncated``, or ``too_large`` beyond the bounds.
        """
        vr, at, end = place
        found = list[tuple[int, int]]()
        while at + 8 <= end:
            tag, length = self._item_head(at)
            if tag != _ITEM:
                break
            at += 8
            if length == _NO_LENGTH:
                is_implicit = self.is_implicit_item(vr, at)
                after = self._walk(at, end, is_implicit=is_implicit, depth=depth, keep=False)[1]
                found.append((at, after))
            else:
                after = at + length
                found.append((at, min(after, end)))
            at = after
            self._spend(1)
        return found

    def _walk(
        self, at: int, end: int, *, is_implicit: bool, depth: int, keep: bool
    ) -> tuple[dict[int, Place], int]:
        """Return the places, if they are to be kept, and where the data set ends."""
        explicit, implicit, long = _BIG if self.is_big else _LITTLE
        raw, places, left = self.raw, dict[int, Place](), self.budget
        vr: bytes | None
        while at + 8 <= end:
            left -= 1
            if left < 0:
                raise SkipError("too_large", "more elements than the limit")
            group, element, vr, length = explicit(raw, at)
            tag = group << 16 | element
            at += 8
            if is_implicit or group == 0xFFFE:
                vr, length = None, implicit(raw, at - 8)[2]
            elif vr in _WITH_SHORT_LENGTH:
                pass
            elif vr in _WITH_LONG_LENGTH:
                if at + 4 > end:
                    raise EndOfBytesError("the header ends within an element")
                (length,) = long(raw, at)
                at += 4
            elif not b"AA" <= vr <= b"ZZ":  # some writers change to implicit VR within sequences
                vr, length = None, implicit(raw, at - 8)[2]
            if tag == _ITEM_END:
                self.budget = left
                return places, at
            if length == _NO_LENGTH:
                if tag in PIXEL_TAGS and depth == 0:
                    places[tag] = vr, at, UNDEFINED
                    break
                self.budget = left
                if tag == _PER_FRAME_GROUPS:
                    self.budget += self._for_frames(places)
                begin, at = at, self._after_items(at, end, vr=vr, depth=depth + 1)
                left = self.budget
                length = at - begin
            else:
                begin, at = at, at + length
            if keep:
                places[tag] = vr, begin, begin + length
            if tag in PIXEL_TAGS and depth == 0:
                break
            if at > end:
                raise EndOfBytesError(f"({group:04X},{element:04X}) of {length} bytes")
        self.budget = left
        return places, at

    def _after_items(self, at: int, end: int, *, vr: bytes | None, depth: int) -> int:
        """Return where a value of undefined length ends, behind its delimiter."""
        if depth > _MAX_DEPTH:
            raise SkipError("too_large", f"sequences deeper than {_MAX_DEPTH}")
        while at + 8 <= end:
            tag, length = self._item_head(at)
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise SkipError("truncated", "a sequence without its end")
            self._spend(1)
            if length != _NO_LENGTH:
                at += length
                continue
            is_implicit = self.is_implicit_item(vr, at)
            at = self._walk(at, end, is_implicit=is_implicit, depth=depth, keep=False)[1]
        raise EndOfBytesError("the header ends within a sequence")

    def _item_head(self, at: int) -> tuple[int, int]:
        group, element, length = (_BIG if self.is_big else _LITTLE)[1](self.raw, at)
        return group << 16 | element, length

    def _spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise SkipError("too_large", "more elements than the limit")

    def _for_frames(self, places: dict[int, Place]) -> int:
        """Return how many elements the groups of as many frames as are declared may have."""
        if _NUMBER_OF_FRAMES not in places:
            return 0
        _, begin, end = places[_NUMBER_OF_FRAMES]
        digits = self.raw[begin : min(end, begin + 12)].strip(b" \0")
        return min(_ELEMENTS_PER_FRAME * int(digits), _MAX_FOR_FRAMES) if digits.isdigit() else 0
