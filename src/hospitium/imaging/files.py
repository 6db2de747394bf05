"""PNG, JPEG and TIFF files -> `Instance` or `Skip`; and any image file, told by its content."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from hospitium.imaging.instance import (
    Facts,
    Instance,
    Limits,
    ReadOptions,
    Skip,
    SkipError,
    Uids,
    Values,
)
from hospitium.imaging.reading import parse_dicom, read_bytes

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")
_FORMATS = ("PNG", "JPEG", "TIFF")
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
_ALPHA = {"LA": "L", "La": "L", "RGBA": "RGB", "RGBa": "RGB", "PA": "RGB"}
_TO_RGB = ("P", "CMYK", "YCbCr", "RGBX")


def read_file(
    path: Path, *, options: ReadOptions | None = None, limits: Limits | None = None
) -> Instance | Skip:
    """Read a DICOM, PNG, JPEG or TIFF file, told by its content; never raises for a bad file."""
    raw = read_bytes(path, limits=limits)
    if isinstance(raw, Skip):
        return raw
    return parse_file(raw, where=str(path), options=options, limits=limits)


def parse_file(
    raw: bytes,
    *,
    where: str = "",
    options: ReadOptions | None = None,
    limits: Limits | None = None,
) -> Instance | Skip:
    """Read a DICOM, PNG, JPEG or TIFF file from its bytes, as `read_file` does."""
    if is_picture_file(raw):
        return parse_image(raw, where=where, limits=limits)
    found = parse_dicom(raw, where=where, options=options, limits=limits)
    if isinstance(found, Skip) and found.reason == "not_dicom" and raw[128:132] != b"DICM":
        return Skip(reason="not_an_image", detail=f"{where}: neither DICOM, PNG, JPEG nor TIFF")
    return found


def is_picture_file(raw: bytes) -> bool:
    """Return whether a file is PNG, JPEG or TIFF by its first bytes; DICOM may begin with any."""
    return raw.startswith(_MAGIC) and raw[128:132] != b"DICM"


def parse_image(raw: bytes, *, where: str = "", limits: Limits | None = None) -> Instance | Skip:
    """Read a PNG, JPEG or TIFF image of 8 to 16 bits, grey or colour, from its bytes.

    The size is checked in the header before decoding, also against Pillow's own limit. The EXIF
    rotation is applied, alpha is dropped, palettes and CMYK become RGB, a TIFF gives its first
    page. Values are as stored; ``range`` is the full range of the bit depth.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _instance(raw, limits or Limits(), caught)
        except SkipError as error:
            return Skip(reason=error.skip.reason, detail=f"{where}: {error.skip.detail}")


def _instance(raw: bytes, limits: Limits, caught: list[warnings.WarningMessage]) -> Instance:
    image, notes = _open(raw, limits)
    photometric, bits = image.mode, _bits(image, raw)
    is_white_zero = _tag(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
    values, more = _pixels(image)
    notes += more
    is_wide = image.mode.startswith("I")
    if bits > 8 and not is_wide:
        bits, notes = 8, (*notes, "reduced_to_8_bits")
    low, high = 0.0, float((1 << (bits if is_wide else 8)) - 1)
    if is_wide and _tag(image, _TIFF_SAMPLE_FORMAT) == _SIGNED:
        low, high = -float(1 << (bits - 1)), float((1 << (bits - 1)) - 1)
    if is_wide and is_white_zero:  # Pillow turns over 1 to 8 bits, but not 16
        values, notes = (low + high) - values, (*notes, "inverted")
    if image.format in ("JPEG", "MPO"):
        notes += ("lossy",)
    if caught:
        notes += ("reader_warning",)
    digest = hashlib.sha256(raw).hexdigest()
    framed: Values = values[np.newaxis].astype(np.float32)
    if values.ndim == 3:
        framed = values[np.newaxis].astype(np.uint8)
    return Instance(
        values=framed,
        range=(low, high),
        facts=Facts(
            modality="",
            manufacturer="",
            rows=values.shape[0],
            columns=values.shape[1],
            bits_stored=bits,
            photometric=photometric,
            spacing_mm=None,
            spacing_kind="none",
            is_lossy="lossy" in notes,
        ),
        uids=Uids(instance=digest),
        digest=digest,
        notes=tuple(dict.fromkeys(notes)),
    )


def _open(raw: bytes, limits: Limits) -> tuple[Image.Image, tuple[str, ...]]:
    """Return the image with its size checked and nothing decoded, and notes."""
    try:  # damaged headers make Pillow raise much more than UnidentifiedImageError
        image = Image.open(io.BytesIO(raw), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SkipError("too_large", str(error)) from error
    except Exception as error:
        raise SkipError("not_an_image", f"{type(error).__name__}: {error}") from error
    width, height = image.size
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise SkipError("too_large", f"{height} x {width}")
    num_bytes = height * width * len(image.getbands())
    if limits.is_bomb(num_pixels=height * width, num_bytes=num_bytes, stored_bytes=len(raw)):
        raise SkipError("too_large", f"{len(raw)} bytes for {height} x {width}")
    if min(width, height) < 1:
        raise SkipError("bad_attribute", f"{height} x {width}")
    return image, ("first_page",) if getattr(image, "is_animated", False) else ()


def _pixels(image: Image.Image) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Decode to ``(row, column)`` or ``(row, column, 3)``, turned as EXIF says, with notes."""
    notes: tuple[str, ...] = ()
    try:
        image.load()
        turned = ImageOps.exif_transpose(image)
        if turned.mode in _ALPHA:
            notes += ("alpha_dropped",)
        plain = _plain(turned)
        values = np.asarray(plain)
    except Exception as error:
        reason = "truncated" if "truncated" in str(error) else "decode_failed"
        raise SkipError(reason, f"{type(error).__name__}: {error}") from error
    if values.ndim not in (2, 3) or values.dtype.kind not in "ui" or values.size == 0:
        raise SkipError("bad_attribute", f"{image.mode}: only 8 to 16 bits, grey or colour")
    if image.mode == "I" and (values.min() < -32_768 or values.max() > 65_535):
        raise SkipError("bad_attribute", "integers of 32 bits: save the image with 16 bits")
    return values, (*notes, "rotated") if turned is not image and _is_rotated(image) else notes


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in mode L, I;16, I or RGB; others stay as they are."""
    if image.mode == "PA" or image.mode in _TO_RGB:
        return image.convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in _ALPHA:
        return image.convert(_ALPHA[image.mode])
    return image.convert("L") if image.mode == "1" else image


def _is_rotated(image: Image.Image) -> bool:
    return image.getexif().get(0x0112, 1) in range(2, 9)


def _bits(image: Image.Image, raw: bytes) -> int:
    """Return the bits of a sample as the file says, 8 for less."""
    if image.format == "PNG":
        return max(8, raw[24])
    found = _tag(image, _TIFF_BITS)
    return max(8, found) if isinstance(found, int) and found <= 16 else 16 if found else 8


def _tag(image: Image.Image, number: int) -> int | None:
    """Return a whole-number tag of a TIFF, of the first sample, None where there is none."""
    tags = getattr(image, "tag_v2", None)
    try:
        value = None if tags is None else tags.get(number)
        first = value[0] if isinstance(value, tuple) else value
        return None if first is None else int(first)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
