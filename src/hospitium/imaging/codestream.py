"""Reads the size that a JPEG, JPEG-LS or JPEG 2000 codestream claims, without decoding it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
# SOF0 to SOF15 without DHT, JPG and DAC (ITU-T T.81 B.1.1.3); SOF55 of JPEG-LS (T.87 C.1.1)
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """What a codestream says about itself; ``is_signed`` is None where it cannot say."""

    rows: int
    columns: int
    samples: int
    precision: int
    is_signed: bool | None
    is_complete: bool


def read_codestream(frame: bytes) -> Codestream | None:
    """Return the size in the first SOF or SIZ segment, or None where there is none.

    ``is_complete`` is whether the end marker stands at the end, but for padding.
    """
    is_complete = frame.rstrip(b"\x00\xff").endswith(_END)
    try:
        if frame.startswith((_J2K_START, _JP2_SIGNATURE)):
            return _read_siz(frame, is_complete=is_complete)
        if frame.startswith(b"\xff\xd8"):
            return _read_sof(frame, is_complete=is_complete)
    except (struct.error, IndexError):
        return None
    return None


def _read_siz(frame: bytes, *, is_complete: bool) -> Codestream | None:
    start = frame.find(_J2K_START)
    if start < 0:
        return None
    right, lower, left, upper = struct.unpack_from(">4I", frame, start + 8)
    samples, depth = struct.unpack_from(">HB", frame, start + 40)
    return Codestream(
        rows=lower - upper,
        columns=right - left,
        samples=samples,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
        is_complete=is_complete,
    )


def _read_sof(frame: bytes, *, is_complete: bool) -> Codestream | None:
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _SOF:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Codestream(
                rows=rows,
                columns=columns,
                samples=samples,
                precision=precision,
                is_signed=None,
                is_complete=is_complete,
            )
        else:
            (length,) = struct.unpack_from(">H", frame, at + 2)
            at += 2 + max(length, 2)
    return None
