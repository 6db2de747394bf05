"""Lookup tables of a header: the modality's and those of the display (PS3.3 C.11.1, C.11.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.elements import Elements
from hospitium.imaging.instance import SkipError

_MOST = 65_536  # of what 16 bits can say


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """A table of values: entry 0 belongs to the input ``first``.

    Attributes:
        bits: Of an entry: the highest that could be there is ``2**bits - 1``.
    """

    first: int
    entries: npt.NDArray[np.float64]
    bits: int = 16

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the entries of these values, clamped at both ends (PS3.3 C.11.1.1.1)."""
        index = np.floor(values).astype(np.int64) - self.first
        found: npt.NDArray[np.float64] = self.entries[np.clip(index, 0, len(self.entries) - 1)]
        return found


def read_lookup(item: Elements, *, is_signed: bool) -> Lookup:
    """Read the table in an item of ``ModalityLUTSequence`` or ``VOILUTSequence``.

    Args:
        item: Of the sequence.
        is_signed: Whether the table's input can be negative.

    Raises:
        SkipError: ``bad_attribute``: there are fewer entries than the descriptor says, or it says
            what no descriptor can.
    """
    descriptor, data = item.numbers("LUTDescriptor"), item.words("LUTData")
    if len(descriptor) != 3 or data is None or not 1 <= descriptor[2] <= 16:
        raise SkipError("bad_attribute", f"lookup table: {descriptor}")
    if max(abs(descriptor[0]), abs(descriptor[1])) > _MOST:
        raise SkipError("bad_attribute", f"lookup table: {descriptor}")
    num_entries, first, bits = (int(number) for number in descriptor)
    num_entries = (num_entries % 65_536) or 65_536
    if is_signed and first >= 32_768:
        first -= 65_536
    if bits <= 8 and data.nbytes in (num_entries, num_entries + 1) and num_entries > 1:
        data = data.astype(f"<u{data.dtype.itemsize}").view(np.uint8)[:num_entries]
    if len(data) != num_entries:
        raise SkipError("bad_attribute", f"lookup table: {len(data)} of {num_entries} entries")
    return Lookup(first=first, entries=data.astype(np.float64), bits=bits)
