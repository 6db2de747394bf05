"""What a header says about an object's pixels, checked, and the limits before any decoder runs."""

from __future__ import annotations

from dataclasses import dataclass

from hospitium.imaging.elements import Elements
from hospitium.imaging.instance import Limits, SkipError
from hospitium.imaging.parsing import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT

_NATIVE = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})
_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1}
_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_TAGS = {"PixelData": 0x7FE00010, "FloatPixelData": 0x7FE00008, "DoubleFloatPixelData": 0x7FE00009}


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The checked description of an object's pixels (PS3.3 C.7.6.3).

    Attributes:
        planar: ``PlanarConfiguration``; None where it is absent.
        is_float: Floating-point pixels (PS3.3 C.7.6.24), not whole numbers.
    """

    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    photometric: str
    planar: int | None = None
    is_float: bool = False

    @property
    def is_native(self) -> bool:
        """Whether the pixels are not compressed."""
        return self.transfer_syntax in _NATIVE

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame; YBR_FULL_422 has two samples for a pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8


@dataclass(frozen=True, kw_only=True)
class PixelPlace:
    """Where the pixels are in the file's bytes; ``end`` is -1 where a delimiter ends them."""

    begin: int
    end: int
    vr: str


def pixel_keyword(elements: Elements) -> str:
    """Return the keyword of the attribute that holds the pixels, empty where there is none."""
    return next((keyword for keyword, tag in _TAGS.items() if tag in elements.places), "")


def pixel_place(elements: Elements, keyword: str) -> PixelPlace:
    """Return where the pixels are."""
    _, begin, end = elements.places[_TAGS[keyword]]
    return PixelPlace(begin=begin, end=end, vr=elements.vr(keyword))


def pixel_format(elements: Elements, *, transfer_syntax: str, keyword: str) -> PixelFormat:
    """Return the checked description of the pixels.

    Raises:
        SkipError: ``missing_attribute``, ``bad_attribute`` or ``not_an_image``.
    """
    bits_allocated = elements.integer("BitsAllocated")
    frames = elements.integer("NumberOfFrames", default=1)
    is_float = keyword in _FLOATS
    bits_stored = bits_allocated if is_float else elements.integer("BitsStored")
    planar = elements.number("PlanarConfiguration")
    found = PixelFormat(
        transfer_syntax=transfer_syntax,
        rows=elements.integer("Rows"),
        columns=elements.integer("Columns"),
        samples=elements.integer("SamplesPerPixel", default=1),
        frames=frames,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=elements.integer("HighBit", default=bits_stored - 1),
        is_signed=elements.integer("PixelRepresentation", default=0) == 1,
        photometric=elements.text("PhotometricInterpretation").upper(),
        planar=None if planar is None else int(planar),
        is_float=is_float,
    )
    _check_format(found, keyword)
    return found


def _check_format(found: PixelFormat, keyword: str) -> None:
    if not found.photometric:
        raise SkipError("missing_attribute", "PhotometricInterpretation")
    if found.bits_allocated == 1:
        raise SkipError("not_an_image", "BitsAllocated = 1: a bit map")
    is_legal = (
        min(found.rows, found.columns, found.frames) >= 1
        and found.samples == _SAMPLES.get(found.photometric, 3)
        and 1 <= found.bits_stored <= found.high_bit + 1 <= found.bits_allocated
    )
    if found.is_float:
        is_legal &= found.bits_allocated == _FLOATS[keyword] and found.photometric == "MONOCHROME2"
    elif found.samples == 3:
        is_legal &= not found.is_signed and found.bits_allocated in (8, 16)
        is_legal &= found.planar in (None, 0, 1)
    else:
        is_legal &= found.bits_allocated in (8, 16, 32)
    if not is_legal:
        raise SkipError("bad_attribute", f"impossible pixels: {found}")
    if found.samples == 3 and found.is_native and found.planar is None:
        raise SkipError("missing_attribute", "PlanarConfiguration")


def check_size(
    found: PixelFormat, place: PixelPlace, *, num_bytes: int, limits: Limits
) -> tuple[str, ...]:
    """Refuse what is too short or too large before anything is decoded.

    Args:
        found: See there.
        place: Of the pixels.
        num_bytes: Of the whole file, inflated.
        limits: What is too large.

    Returns:
        Notes: ``trailing_bytes``.

    Raises:
        SkipError: ``truncated``, ``too_large``, ``bad_attribute``.
    """
    needed = found.frame_bytes * found.frames
    size = place.end - place.begin
    if found.is_native and place.end < 0:
        raise SkipError("bad_attribute", "encapsulated pixels in a native transfer syntax")
    if found.is_native and min(place.end, num_bytes) - place.begin < needed:
        raise SkipError("truncated", f"{num_bytes - place.begin} bytes of pixels of {needed}")
    if max(found.rows, found.columns) > limits.max_side:
        raise SkipError("too_large", f"{found.rows} x {found.columns}")
    if found.frames > limits.max_frames:
        raise SkipError("too_large", f"{found.frames} frames")
    if found.rows * found.columns * found.frames > limits.max_pixels:
        raise SkipError("too_large", f"{found.frames} x {found.rows} x {found.columns}")
    stored = (num_bytes if place.end < 0 else min(place.end, num_bytes)) - place.begin
    num_pixels = found.rows * found.columns * found.frames
    if limits.is_bomb(num_pixels=num_pixels, num_bytes=needed, stored_bytes=stored):
        raise SkipError("too_large", f"{stored} bytes for {needed} bytes of pixels")
    return ("trailing_bytes",) if found.is_native and size > needed + needed % 2 else ()
