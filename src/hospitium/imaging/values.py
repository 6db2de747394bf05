"""The value chain: from stored bits to values with a meaning (DICOM PS3.3 C.7.6.3, C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray, Mask

_AIR_HU = -1024.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """A modality lookup table: entry 0 belongs to the stored value ``first``."""

    first: int
    entries: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """What turns stored values into physical ones, read from the header beforehand.

    Attributes:
        bits_stored: Significant bits of a stored value.
        is_signed: Whether stored values are in two's complement.
        slope: Of the linear rescale; not 0.
        intercept: Of the linear rescale.
        lookup: Takes the place of the linear rescale.
        padding: Inclusive range of stored values that mean "no image here".
        is_inverted: White is low, and the modality is a projection.
        is_ct: Values are Hounsfield units.
    """

    bits_stored: int
    is_signed: bool
    slope: float = 1.0
    intercept: float = 0.0
    lookup: Lookup | None = None
    padding: tuple[int, int] | None = None
    is_inverted: bool = False
    is_ct: bool = False


def stored_values(
    words: npt.NDArray[Any], *, bits_stored: int, high_bit: int, is_signed: bool
) -> npt.NDArray[Any]:
    """Return the numbers in the bits ``high_bit - bits_stored + 1`` to ``high_bit`` of each word.

    Bits outside (overlays, garbage) are ignored, and the sign comes from the highest bit stored,
    not from the allocated word (PS3.5 8.1.1).

    Args:
        words: Integers of any byte order, 8, 16 or 32 bits.
        bits_stored: 1 to the size of a word.
        high_bit: ``bits_stored - 1`` to the size of a word less 1.
        is_signed: Whether the result is in two's complement.

    Returns:
        Integers of the same shape and size in native byte order, signed if ``is_signed``.
    """
    size = words.dtype.itemsize
    unsigned = words.astype(words.dtype.newbyteorder("="), copy=False).view(f"u{size}")
    shift = high_bit + 1 - bits_stored
    if shift:
        unsigned = unsigned >> shift
    unused = 8 * size - bits_stored
    if not is_signed:
        return unsigned & unsigned.dtype.type((1 << bits_stored) - 1) if unused else unsigned
    signed = (unsigned << unused).view(f"i{size}") if unused else unsigned.view(f"i{size}")
    return signed >> unused if unused else signed


def physical_values(
    stored: npt.NDArray[Any], chain: Chain
) -> tuple[FloatArray, tuple[float, float], Mask | None]:
    """Apply padding, rescale or lookup table, and inversion, in this order.

    Inversion is ``lo + hi - y``, where ``[lo, hi]`` is the range that the steps before can give
    for all values of ``bits_stored``: without rescale ``2^bits_stored - 1 - x``. It is the last
    step, because windows are written for values before it (PS3.3 C.7.6.3.1.2).

    Returns:
        Values, their possible range, and where they are valid (None: everywhere).
    """
    valid = _validity(stored, chain.padding)
    low, high = _stored_range(chain)
    values: npt.NDArray[Any]
    if chain.lookup is not None:
        values = _look_up(stored, chain.lookup)
        ends = _look_up(np.arange(low, high + 1), chain.lookup)
        low_value, high_value = float(ends.min()), float(ends.max())
    elif (chain.slope, chain.intercept) == (1.0, 0.0):
        values, low_value, high_value = stored, float(low), float(high)
    else:
        values = stored * chain.slope + chain.intercept
        ends = np.array([low, high]) * chain.slope + chain.intercept
        low_value, high_value = float(ends.min()), float(ends.max())
    if chain.is_inverted:
        values = (low_value + high_value) - values
    if chain.is_ct and low_value < _AIR_HU:
        valid = _without_air(values, valid)
    return values.astype(np.float32), (low_value, high_value), valid


def _stored_range(chain: Chain) -> tuple[int, int]:
    """Return the least and the greatest value that the stored bits can hold."""
    if chain.is_signed:
        return -(1 << (chain.bits_stored - 1)), (1 << (chain.bits_stored - 1)) - 1
    return 0, (1 << chain.bits_stored) - 1


def _look_up(stored: npt.NDArray[Any], lookup: Lookup) -> npt.NDArray[np.float64]:
    """Return the table's entries, clamped at both ends (PS3.3 C.11.1.1.1)."""
    index = stored.astype(np.int64) - lookup.first
    return lookup.entries[np.clip(index, 0, len(lookup.entries) - 1)]


def _validity(stored: npt.NDArray[Any], padding: tuple[int, int] | None) -> Mask | None:
    """Return where a stored value is not padding; None where that is everywhere."""
    if padding is None:
        return None
    wide = stored.astype(np.int64)
    padded = (wide >= padding[0]) & (wide <= padding[1])
    return ~padded if padded.any() else None


def _without_air(values: npt.NDArray[Any], valid: Mask | None) -> Mask | None:
    """Take from the valid pixels what is below air: padding that lossy compression has spread."""
    below = values < _AIR_HU
    if not below.any():
        return valid
    return ~below if valid is None else valid & ~below
