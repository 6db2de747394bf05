"""The value chain: from stored bits to values with a meaning (DICOM PS3.3 C.7.6.3, C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray, Mask, SkipError
from hospitium.imaging.lookup import Lookup
from hospitium.imaging.voi import LookupToUnit, Window

_AIR_HU = -1024.0
_LARGEST = 1e30  # far beyond any unit, and its square is still finite in float64
_EXACT = 1 << 22  # whole numbers up to this, their sums and differences are exact in float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """What turns stored values into physical ones, read from the header beforehand.

    Attributes:
        bits_stored: Significant bits of a stored value.
        is_signed: Whether stored values are in two's complement.
        slope: Of the linear rescale; not 0.
        intercept: Of the linear rescale.
        lookup: Takes the place of the linear rescale; only for up to 16 bits.
        padding: Inclusive range of stored values that mean "no image here".
        voi: Applied after the rescale, to [0, 1].
        is_inverted: White is low, and the modality is a projection.
        is_ct: Values are Hounsfield units.
    """

    bits_stored: int
    is_signed: bool
    slope: float = 1.0
    intercept: float = 0.0
    lookup: Lookup | None = None
    padding: tuple[int, int] | None = None
    voi: Window | LookupToUnit | None = None
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
    """Apply padding, rescale or lookup table, window, and inversion, in this order.

    Inversion is ``lo + hi - y``, where ``[lo, hi]`` is the range that the steps before can give
    for all values of ``bits_stored``: without rescale ``2^bits_stored - 1 - x``. It is the last
    step, because windows are written for values before it (PS3.3 C.7.6.3.1.2).

    Returns:
        Values, their possible range as float32, and where they are valid (None: everywhere).

    Raises:
        SkipError: ``bad_attribute``: the rescale leads to numbers that no measurement gives.
    """
    valid = _validity(stored, chain.padding)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = _transformed(_levels(chain), chain)
    low, high = float(ends.min()), float(ends.max())
    if not max(abs(low), abs(high)) <= _LARGEST:
        raise SkipError("bad_attribute", f"values from {low:g} to {high:g}")
    values = _transformed(stored, chain)
    if chain.is_inverted:
        values = (low + high) - values
    if chain.is_ct and low < _AIR_HU:
        valid = _without_air(values, valid)
    ends_32 = float(np.float32(low)), float(np.float32(high))
    return values.astype(np.float32, copy=False), ends_32, valid


def _transformed(stored: npt.NDArray[Any], chain: Chain) -> npt.NDArray[Any]:
    """Return values after lookup table or rescale, and window; nothing is copied for nothing."""
    values = stored
    if chain.lookup is not None:
        values = chain.lookup.of(stored)
    elif (chain.slope, chain.intercept) != (1.0, 0.0):
        number = np.float32 if _is_whole(chain) else np.float64
        values = stored * number(chain.slope)
        values += number(chain.intercept)
    return values if chain.voi is None else chain.voi.of(values)


def _is_whole(chain: Chain) -> bool:
    """Return whether all that a rescale gives is exact in float32, and nothing comes after it."""
    largest = max(map(abs, _stored_range(chain))) * abs(chain.slope) + abs(chain.intercept)
    is_whole = float(chain.slope).is_integer() and float(chain.intercept).is_integer()
    return chain.voi is None and is_whole and largest <= _EXACT


def _levels(chain: Chain) -> npt.NDArray[np.int64]:
    """Return stored values among whose results are the lowest and the highest possible one.

    These are the ends where all steps are monotonous. With a table, which is only for up to 16
    bits, all are tried.
    """
    low, high = _stored_range(chain)
    if chain.lookup is None and not isinstance(chain.voi, LookupToUnit):
        return np.array([low, high])
    return np.arange(low, high + 1)


def _stored_range(chain: Chain) -> tuple[int, int]:
    """Return the least and the greatest value that the stored bits can hold."""
    if chain.is_signed:
        return -(1 << (chain.bits_stored - 1)), (1 << (chain.bits_stored - 1)) - 1
    return 0, (1 << chain.bits_stored) - 1


def _validity(stored: npt.NDArray[Any], padding: tuple[int, int] | None) -> Mask | None:
    """Return where a stored value is not padding; None where that is everywhere."""
    if padding is None:
        return None
    padded = (stored >= padding[0]) & (stored <= padding[1])
    return ~padded if padded.any() else None


def _without_air(values: npt.NDArray[Any], valid: Mask | None) -> Mask | None:
    """Take from the valid pixels what is below air: padding that lossy compression has spread."""
    below = values < _AIR_HU
    if not below.any():
        return valid
    return ~below if valid is None else valid & ~below
