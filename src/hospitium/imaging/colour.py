"""Colour pixels -> RGB uint8: planes, YBR and palettes (PS3.3 C.7.6.3.1.2 to .5, C.7.9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import convert_color_space

from hospitium.imaging.elements import Elements
from hospitium.imaging.instance import SkipError
from hospitium.imaging.pixels import PixelFormat

_NAMES = ("Red", "Green", "Blue")
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def native_colour(words: npt.NDArray[Any], found: PixelFormat) -> npt.NDArray[Any]:
    """Return ``(row, column, 3)`` RGB of the words of one uncompressed frame, as allocated.

    Raises:
        SkipError: ``bad_attribute``: a photometric interpretation that is not defined.
    """
    if found.photometric == "YBR_FULL_422":
        if found.columns % 2:
            raise SkipError("bad_attribute", "YBR_FULL_422 with an odd number of columns")
        pairs = words.reshape(found.rows, found.columns // 2, 4)
        wide = np.empty((found.rows, found.columns // 2, 2, 3), words.dtype)
        wide[..., 0] = pairs[..., :2]
        wide[..., 1] = pairs[..., 2, np.newaxis]
        wide[..., 2] = pairs[..., 3, np.newaxis]
        pixels = wide.reshape(found.rows, found.columns, 3)
    elif found.planar == 1:
        pixels = np.moveaxis(words.reshape(3, found.rows, found.columns), 0, 2)
    else:
        pixels = words.reshape(found.rows, found.columns, 3)
    if found.photometric == "RGB":
        return pixels
    if found.photometric not in ("YBR_FULL", "YBR_FULL_422") or found.bits_stored != 8:
        raise SkipError("bad_attribute", f"{found.photometric} of {found.bits_stored} bits")
    converted: npt.NDArray[Any] = convert_color_space(pixels, "YBR_FULL", "RGB")
    return converted


def to_8_bits(words: npt.NDArray[Any], *, bits_stored: int) -> npt.NDArray[np.uint8]:
    """Return the upper 8 of the bits stored; words of 8 bits are complete."""
    unused = max(0, bits_stored - 8) if words.dtype.itemsize > 1 else 0
    return (words >> unused).astype(np.uint8)


def palette(elements: Elements, *, is_signed: bool) -> tuple[int, npt.NDArray[np.uint8]]:
    """Return the stored value of the first entry, and the ``(entry, 3)`` colours of a palette.

    Entries of 16 bits keep their upper 8. Segmented tables are expanded within their length.

    Raises:
        SkipError: ``missing_attribute``, ``bad_attribute``.
    """
    described = [_descriptor(elements, name, is_signed=is_signed) for name in _NAMES]
    if len(set(described)) != 1:
        raise SkipError("bad_attribute", f"palette: {described}")
    num_entries, first, bits = described[0]
    tables = [_table(elements, name, num_entries=num_entries, bits=bits) for name in _NAMES]
    return first, np.stack(tables, axis=1)


def apply_palette(
    stored: npt.NDArray[Any], first: int, entries: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Return the colour of each stored value, clamped at both ends (PS3.3 C.7.6.3.1.5)."""
    index = stored.astype(np.int64) - first
    return entries[np.clip(index, 0, len(entries) - 1)]


def _descriptor(elements: Elements, name: str, *, is_signed: bool) -> tuple[int, int, int]:
    """Return entries, first stored value, bits."""
    numbers = elements.numbers(f"{name}PaletteColorLookupTableDescriptor")
    if not numbers:
        raise SkipError("missing_attribute", f"{name}PaletteColorLookupTableDescriptor")
    if len(numbers) != 3 or numbers[2] not in (8, 16):
        raise SkipError("bad_attribute", f"palette: {numbers}")
    num_entries, first, bits = (int(number) for number in numbers)
    if is_signed and first >= 32_768:
        first -= 65_536
    return (num_entries % 65_536) or 65_536, first, bits


def _table(elements: Elements, name: str, *, num_entries: int, bits: int) -> npt.NDArray[np.uint8]:
    """Return the entries of one colour, as 8 bits."""
    segments = elements.words(f"Segmented{name}PaletteColorLookupTableData")
    if segments is not None:
        code = _bytes(segments) if bits == 8 else segments
        table = np.array(_expanded(code.tolist(), num_entries, word_bytes=bits // 8))
        return (table >> (bits - 8)).astype(np.uint8)
    words = elements.words(f"{name}PaletteColorLookupTableData")
    if words is None:
        raise SkipError("missing_attribute", f"{name}PaletteColorLookupTableData")
    if words.nbytes < 2 * num_entries:  # two entries to a word
        words, bits = _bytes(words), 8
    if len(words) < num_entries:
        raise SkipError("bad_attribute", f"palette: {len(words)} entries of {num_entries}")
    return (words[:num_entries] >> (bits - 8)).astype(np.uint8)


def _bytes(words: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the bytes of words, the low one first (PS3.3 C.7.6.3.1.6)."""
    return words.astype(f"<u{words.dtype.itemsize}").view(np.uint8)


def _expanded(code: Sequence[int], num_entries: int, *, word_bytes: int) -> list[int]:
    """Return the entries that segments stand for (PS3.3 C.7.9.2)."""
    table: list[int] = []
    try:
        _expand(code, table, num_entries, at=0, most=len(code), word_bytes=word_bytes)
    except IndexError as error:
        raise SkipError("bad_attribute", "palette: a segment ends early") from error
    if len(table) != num_entries:
        raise SkipError("bad_attribute", f"palette: {len(table)} entries of {num_entries}")
    return table


def _expand(
    code: Sequence[int],
    table: list[int],
    num_entries: int,
    *,
    at: int,
    most: int,
    word_bytes: int,
    is_copy: bool = False,
) -> None:
    """Add the entries of at most so many segments that begin at ``at``."""
    while most > 0 and at + 2 < len(code) and len(table) < num_entries:
        kind, length = code[at], code[at + 1]
        most -= 1
        if kind == _DISCRETE:
            table += [code[at + 2 + step] for step in range(min(length, num_entries))]
            at += 2 + length
        elif kind == _LINEAR and table:
            start, end = table[-1], code[at + 2]
            steps = range(1, min(length, num_entries) + 1)
            table += [round(start + (end - start) * step / length) for step in steps]
            at += 3
        elif kind == _INDIRECT and table and not is_copy:
            words = [code[at + 2 + word] for word in range(4 // word_bytes)]
            offset = sum(word << 8 * word_bytes * power for power, word in enumerate(words))
            _expand(
                code,
                table,
                num_entries,
                at=offset // word_bytes,
                most=length,
                word_bytes=word_bytes,
                is_copy=True,
            )
            at += 2 + len(words)
        else:
            raise SkipError("bad_attribute", f"palette: a segment of kind {kind}")
