"""Small files that claim to be enormous: each is refused in few steps and little memory."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from steps import steps_of

from hospitium.imaging import decoding
from hospitium.imaging.files import parse_image
from hospitium.imaging.instance import Instance, Skip
from hospitium.imaging.reading import parse_dicom, read_header

J2K, JPEG_LS, RLE, DEFLATED = (f"1.2.840.10008.1.2.{end}" for end in ("4.90", "4.80", "5", "1.99"))
MOST_STEPS, MOST_BYTES = 100_000, 200 << 20
REASONS = {
    "more pixels than the limit": "too_large",
    "a codestream larger than its header": "codestream_mismatch",
    "a blank codestream of 400 million pixels": "too_large",
    "the same as JPEG-LS": "too_large",
    "hundreds of blank frames": "too_large",
    "run lengths that do not fill the image": "truncated",
    "native pixels that are not there": "truncated",
    "frames without end": "too_large",
    "a deflated data set that grows a thousandfold": "too_large",
    "millions of elements": "too_large",
    "deep sequences": "too_large",
    "millions of items": "too_large",
    "elements in functional groups": "too_large",
    "millions of fragments": "too_large",
}
SLOW = "elements in functional groups"
"""As many as 8192 frames may have, which takes 10 s where allocations are traced."""


def j2k(rows: int, columns: int) -> bytes:
    siz = struct.pack(">4s4x4I16x", b"\xff\x4f\xff\x51", columns, rows, 0, 0)
    return siz + b"\0\1\x0f\1\1" + b"\xff\xd9"


def jpeg_ls(rows: int, columns: int) -> bytes:
    return (
        b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 16, rows, columns, 1) + b"\1\x11\0\xff\xd9"
    )


def deflated(raw: bytes, content: bytes) -> bytes:
    """Return a file with its deflated data set replaced by one of this content."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    start = 132 + 12 + int.from_bytes(raw[140:144], "little")
    return raw[:start] + packer.compress(content) + packer.flush()


def elements(count: int) -> bytes:
    return (bytes.fromhex("08000000") + b"UI\0\0") * count


def large(rows: int, columns: int, frames: int = 1) -> dict:
    return {"Rows": rows, "Columns": columns, "NumberOfFrames": frames}


def bombs(dicom: Callable[..., bytes]) -> dict[str, bytes]:
    """Return each bomb by what it does."""
    ramp = np.zeros((6, 8), np.uint16)
    header = dicom(ramp)
    start = header.index(b"\x08\0\x16\0UI")
    undefined = (
        bytes.fromhex("0800 4011") + b"SQ\0\0\xff\xff\xff\xff" + bytes.fromhex("feff 00e0 ffffffff")
    )
    items = bytes.fromhex("feff00e000000000")
    return {
        "more pixels than the limit": dicom(
            ramp, syntax=J2K, PixelData=encapsulate([j2k(60_000, 60_000)]), **large(60_000, 60_000)
        ),
        "a codestream larger than its header": dicom(
            ramp, syntax=J2K, PixelData=encapsulate([j2k(60_000, 60_000)])
        ),
        "a blank codestream of 400 million pixels": dicom(
            ramp, syntax=J2K, PixelData=encapsulate([j2k(20_000, 20_000)]), **large(20_000, 20_000)
        ),
        "the same as JPEG-LS": dicom(
            ramp,
            syntax=JPEG_LS,
            PixelData=encapsulate([jpeg_ls(20_000, 20_000)]),
            **large(20_000, 20_000),
        ),
        "hundreds of blank frames": dicom(
            ramp,
            syntax=J2K,
            PixelData=encapsulate([j2k(2000, 2000)] * 100),
            **large(2000, 2000, 100),
        ),
        "run lengths that do not fill the image": dicom(
            ramp,
            syntax=RLE,
            PixelData=encapsulate([struct.pack("<L15L", 2, 64, 66, *[0] * 13) + b"\x81\0\x81\0"]),
            **large(4000, 4000),
        ),
        "native pixels that are not there": dicom(ramp, **large(60_000, 60_000)),
        "frames without end": dicom(ramp, NumberOfFrames=2_000_000_000),
        "a deflated data set that grows a thousandfold": deflated(
            dicom(ramp, syntax=DEFLATED), bytes(1 << 26)
        ),
        "millions of elements": header[:start] + elements(2_000_000) + header[start:],
        "deep sequences": header[:start] + undefined * 500_000,
        "millions of items": header[:start] + undefined[:12] + items * 4_000_000,
        "elements in functional groups": dicom(ramp, NumberOfFrames=8192)[:-108]
        + bytes.fromhex("0052 3092")
        + b"SQ\0\0\xff\xff\xff\xff"
        + bytes.fromhex("feff 00e0 ffffffff")
        + elements(3_000_000),
        "millions of fragments": dicom(
            ramp, syntax=J2K, PixelData=bytes.fromhex("feff00e000000000") * 3_000_000
        ),
    }


def blank_png(side: int) -> bytes:
    """Return a PNG of black pixels, one bit each."""
    rows = zlib.compress(bytes(side // 8 + 2) * side, 9)
    stream = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">LLBBBBB", side, side, 1, 0, 0, 0, 0)
    for kind, data in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")):
        crc = zlib.crc32(kind + data)
        stream += struct.pack(">L", len(data)) + kind + data + struct.pack(">L", crc)
    return stream


@pytest.fixture(scope="module")
def made(dicom) -> dict[str, bytes]:
    return bombs(dicom)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.ci] if name == SLOW else []) for name in REASONS],
)
def test_each_bomb_is_refused_at_once_and_in_little_memory(made, name, monkeypatch):
    """No codec sees it: what would be decoded is ``decode_failed`` here."""
    for codec in ("_decode_with", "_decode_12_bit"):
        monkeypatch.setattr(decoding, codec, None)
    raw = made[name]
    most_steps = 12 * MOST_STEPS if name == SLOW else MOST_STEPS
    for read in (parse_dicom,) if name == SLOW else (parse_dicom, read_header):
        found, peak, steps = measured(lambda read=read: read(raw))
        assert steps < most_steps, f"{steps} steps"
        assert peak < MOST_BYTES, f"{peak >> 20} MiB"
        if read is parse_dicom:
            assert isinstance(found, Skip)
            assert found.reason == REASONS[name]


@pytest.mark.parametrize("side", [6_000, 12_000])
def test_each_picture_bomb_is_refused_at_once_and_in_little_memory(side):
    raw = blank_png(side)
    found, peak, steps = measured(lambda: parse_image(raw))
    assert (found.reason, steps < MOST_STEPS, peak < MOST_BYTES) == ("too_large", True, True)


def measured(read: Callable[[], object]) -> tuple[object, int, int]:
    """Return what a reader gives, the most memory of its allocations, and its steps."""
    tracemalloc.start()
    try:
        found, steps = steps_of(read)
        return found, tracemalloc.get_traced_memory()[1], steps
    finally:
        tracemalloc.stop()


def test_a_blank_image_of_usual_size_is_no_bomb(dicom):
    blank = Image.new("L", (3000, 3000))
    buffer = io.BytesIO()
    blank.save(buffer, "PNG")
    assert isinstance(parse_image(buffer.getvalue()), Instance)
    assert isinstance(parse_dicom(dicom(np.zeros((3000, 3000), np.uint8))), Instance)
