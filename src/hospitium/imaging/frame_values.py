"""The values of all frames of an image object: grey, colour or floating point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.chains import chains
from hospitium.imaging.colour import apply_palette, palette, to_8_bits
from hospitium.imaging.decoding import RLE, Words, decode
from hospitium.imaging.image_object import ImageObject
from hospitium.imaging.instance import FloatArray, Mask, ReadOptions, SkipError, Values
from hospitium.imaging.pixels import PixelFormat
from hospitium.imaging.values import physical_values, stored_values

Read: TypeAlias = tuple[Values, tuple[float, float], Mask | None, tuple[str, ...]]
"""Values, their possible range, where they are valid (None: everywhere), and notes."""


def frame_values(found: ImageObject, options: ReadOptions) -> Read:
    """Decode an object and apply what its header says about its values.

    Raises:
        SkipError: The first frame that cannot be trusted refuses the whole object.
    """
    if found.format.is_float:
        return _float_values(found)
    if found.format.samples == 3 or found.format.photometric == "PALETTE COLOR":
        return _colour_values(found)
    return _grey_values(found, options)


def stored_frames(found: ImageObject) -> Iterator[npt.NDArray[Any]]:
    """Yield each frame as it is stored, before any step of the value chain; colour is RGB.

    Raises:
        SkipError: As `frame_values`.
    """
    for words, _ in _frames(found):
        yield words if found.format.samples == 3 else _stored(words, found.format)


def _grey_values(found: ImageObject, options: ReadOptions) -> Read:
    """Return physical values of all frames; each frame has its own value chain."""
    described = found.format
    steps, notes = chains(found.parsed.elements, described, found.groups, options)
    values: FloatArray | None = None
    is_valid: Mask | None = None
    lows, highs = list[float](), list[float]()
    for index, (words, more) in enumerate(_frames(found)):
        frame, (low, high), valid = physical_values(_stored(words, described), steps[index])
        if described.frames == 1:
            values, is_valid = frame[np.newaxis], None if valid is None else valid[np.newaxis]
        else:
            if values is None:
                values = np.empty((described.frames, *frame.shape), np.float32)
            values[index] = frame
            if valid is not None:
                is_valid = np.ones(values.shape, np.bool_) if is_valid is None else is_valid
                is_valid[index] = valid
        lows.append(low)
        highs.append(high)
        notes += more
    assert values is not None
    return values, _ends(min(lows), max(highs)), is_valid, notes


def _colour_values(found: ImageObject) -> Read:
    """Return RGB uint8 of all frames."""
    described, elements = found.format, found.parsed.elements
    values = np.empty((described.frames, described.rows, described.columns, 3), np.uint8)
    notes = tuple[str, ...]()
    if described.samples == 1:
        first, entries = palette(elements, is_signed=described.is_signed)
        for index, (words, more) in enumerate(_frames(found)):
            values[index] = apply_palette(_stored(words, described), first, entries)
            notes += more
        return values, (0.0, 255.0), None, notes
    for index, (words, more) in enumerate(_frames(found)):
        values[index] = to_8_bits(words, bits_stored=described.bits_stored)
        notes += more
        if words.dtype.itemsize > 1 and described.bits_stored > 8:
            notes += ("reduced_to_8_bits",)
    return values, (0.0, 255.0), None, notes


def _float_values(found: ImageObject) -> Read:
    """Return floating-point pixels; what is no finite number is 0 and not valid."""
    described = found.format
    if not described.is_native:
        raise SkipError("transfer_syntax_unsupported", "compressed floating-point pixels")
    values = np.empty((described.frames, described.rows, described.columns), np.float32)
    with np.errstate(over="ignore"):
        for index, (words, _) in enumerate(_frames(found)):
            values[index] = words
    finite = np.isfinite(values)
    is_valid = None if finite.all() else finite
    values[~finite] = 0.0
    ends = _ends(float(values.min()), float(values.max()))
    return values, ends, is_valid, ("range_assumed",)


def _ends(low: float, high: float) -> tuple[float, float]:
    """Return a range that is not empty, though a table or window may give one value only."""
    if low < high:
        return low, high
    return (0.0, 1.0) if 0.0 <= low <= 1.0 else (low, low + 1.0)


def _frames(found: ImageObject) -> Iterator[tuple[Words, tuple[str, ...]]]:
    """Yield words and notes of each frame."""
    return decode(found.parsed.elements, found.format, found.place)


def _stored(words: Words, found: PixelFormat) -> npt.NDArray[Any]:
    """Return stored values; a codestream is already right-aligned, whatever ``HighBit`` says."""
    is_aligned = not found.is_native and found.transfer_syntax != RLE
    return stored_values(
        words,
        bits_stored=found.bits_stored,
        high_bit=found.bits_stored - 1 if is_aligned else found.high_bit,
        is_signed=found.is_signed,
    )
