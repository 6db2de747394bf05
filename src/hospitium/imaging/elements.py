"""Reading single DICOM attributes: what they must be, or a `SkipError`; never another exception."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, tag_for_keyword

from hospitium.imaging.instance import SkipError
from hospitium.imaging.walking import Place, Walker

_BINARY = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8", "US or SS": "u2"}
_WORDS = {"OW": "u2", "US": "u2", "SS": "u2", "US or SS": "u2", "US or OW": "u2", "OB": "u1"}
_BLANK = " \0\t\r\n"
_CONTROLS = dict.fromkeys((*range(32), 127), "\ufffd")


@lru_cache(maxsize=512)
def _definition(keyword: str) -> tuple[int, str]:
    """Return tag and VR of a keyword of the standard's dictionary."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag, dictionary_VR(tag)


@dataclass(frozen=True, kw_only=True, eq=False)
class Elements:
    """The elements of one data set or one item of a sequence, converted when they are asked for.

    Attributes:
        walker: Over the bytes of the file.
        places: Where each value is, by tag.
        depth: Of sequences around this data set.
    """

    walker: Walker
    places: dict[int, Place]
    depth: int = 0

    def __contains__(self, keyword: str) -> bool:
        return _definition(keyword)[0] in self.places

    def __len__(self) -> int:
        return len(self.places)

    def value(self, keyword: str) -> bytes | None:
        """Return an attribute's bytes, None if it is absent or empty."""
        place = self.places.get(_definition(keyword)[0])
        if place is None or place[1] == place[2]:
            return None
        return self.walker.raw[place[1] : place[2]]

    def text(self, keyword: str) -> str:
        """Return a code or a name as one stripped line of ASCII, empty if it is absent.

        Several values stay joined by a backslash, as they are stored. What is not ASCII becomes
        the replacement character, as a control code does, which would steer a terminal: no text
        of a person or a place is decoded here.
        """
        value = self.value(keyword)
        if value is None:
            return ""
        found = value.decode("ascii", "replace").strip(_BLANK)
        if not found.isprintable():
            found = found.translate(_CONTROLS)
        return "\\".join(part.strip(_BLANK) for part in found.split("\\")) if found else ""

    def name(self, keyword: str) -> str:
        """Return text in the character set that the data set declares, empty if it is absent.

        Only for what stays at the site. What cannot be decoded is replaced (PS3.3 C.12.1.1.2).
        """
        value = self.value(keyword)
        if value is None:
            return ""
        if not value.isascii():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    encodings = convert_encodings(self.text("SpecificCharacterSet").split("\\"))
                    return str(decode_bytes(value, encodings, {0x5C})).strip(_BLANK)
            except Exception:  # codecs of damaged text raise whatever they like
                return value.decode("latin-1").strip(_BLANK)
        return value.decode("ascii").strip(_BLANK)

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return finite numbers, none if the attribute is absent.

        Raises:
            SkipError: ``bad_attribute``: one of them is no finite number.
        """
        value = self.value(keyword)
        if value is None:
            return ()
        kind = _BINARY.get(self._vr(keyword))
        try:
            if kind is None:
                found = tuple(map(float, value.decode("ascii").strip(_BLANK).split("\\")))
            else:
                found = tuple(np.frombuffer(value, self._order() + kind).astype(float).tolist())
        except (ValueError, OverflowError) as error:
            if not value.strip(b" \0"):
                return ()
            raise SkipError("bad_attribute", f"{keyword} = {value[:80]!r}") from error
        if not all(map(math.isfinite, found)):
            raise SkipError("bad_attribute", f"{keyword} = {value[:80]!r}")
        return found

    def number(self, keyword: str) -> float | None:
        """Return a finite number, None if it is absent.

        Raises:
            SkipError: ``bad_attribute``: not one finite number.
        """
        found = self.numbers(keyword)
        if len(found) > 1:
            raise SkipError("bad_attribute", f"{keyword} has {len(found)} values")
        return found[0] if found else None

    def integer(self, keyword: str, *, default: int | None = None) -> int:
        """Return a whole number.

        Raises:
            SkipError: ``missing_attribute`` if it is absent without a default, ``bad_attribute``.
        """
        found = self.number(keyword)
        if found is None:
            if default is None:
                raise SkipError("missing_attribute", keyword)
            return default
        if not found.is_integer():
            raise SkipError("bad_attribute", f"{keyword} = {found}")
        return int(found)

    def words(self, keyword: str) -> npt.NDArray[np.uint16] | npt.NDArray[np.uint8] | None:
        """Return a table of words, unsigned, None if it is absent; bytes only where VR is OB."""
        value = self.value(keyword)
        if value is None:
            return None
        kind = _WORDS.get(self._vr(keyword), "u2")
        whole = value[: len(value) // int(kind[1]) * int(kind[1])]
        table: npt.NDArray[np.uint16] = np.frombuffer(whole, self._order() + kind)
        return table.astype(kind)

    def items(self, keyword: str) -> list[Elements]:
        """Return the items of a sequence, none if it is absent.

        Raises:
            SkipError: ``truncated``, ``too_large``.
        """
        place = self.places.get(_definition(keyword)[0])
        if place is None:
            return []
        depth, vr = self.depth + 1, place[0]
        return [
            Elements(
                walker=self.walker,
                places=self.walker.data_set(
                    begin,
                    end,
                    is_implicit=self.walker.is_implicit_item(vr, begin),
                    depth=depth,
                ),
                depth=depth,
            )
            for begin, end in self.walker.items(place, depth=depth)
        ]

    def item(self, keyword: str) -> Elements | None:
        """Return the first item of a sequence, None where there is none."""
        found = self.items(keyword)
        return found[0] if found else None

    def vr(self, keyword: str) -> str:
        """Return the VR that is stored, else that of the standard."""
        return self._vr(keyword)

    def _vr(self, keyword: str) -> str:
        tag, usual = _definition(keyword)
        stored = self.places[tag][0]
        return usual if stored is None or stored == b"UN" else stored.decode("ascii", "replace")

    def _order(self) -> str:
        return ">" if self.walker.is_big else "<"
