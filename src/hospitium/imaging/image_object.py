"""A DICOM object that is an image by its header, or the reason why it is none."""

from __future__ import annotations

from dataclasses import dataclass

from hospitium.imaging.groups import Groups, read_groups
from hospitium.imaging.instance import Limits, ReadOptions, SkipError
from hospitium.imaging.parsing import Parsed, parse
from hospitium.imaging.pixels import (
    PixelFormat,
    PixelPlace,
    pixel_format,
    pixel_keyword,
    pixel_place,
)

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_LABEL_OBJECTS = (_STORAGE + "66.4", _STORAGE + "66.7", _STORAGE + "481.3")
_NOT_IMAGES = (_STORAGE + "481.2",)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageObject:
    """An object whose header describes an image; its pixels have not been looked at.

    Attributes:
        parsed: Its elements.
        format: Of its pixels, checked.
        groups: Functional groups, empty where it has none.
        place: Of its pixels in the file.
    """

    parsed: Parsed
    format: PixelFormat
    groups: Groups
    place: PixelPlace


def image_object(raw: bytes, options: ReadOptions, limits: Limits) -> ImageObject:
    """Return an object that is an image by its header.

    Raises:
        SkipError: Why it is none: one of the reasons about the file and its encoding.
    """
    parsed = parse(raw, limits=limits)
    keyword = _require_pixels(parsed, options)
    elements = parsed.elements
    found = pixel_format(elements, transfer_syntax=parsed.transfer_syntax, keyword=keyword)
    if elements.text("SOPClassUID") in _NOT_IMAGES:
        raise SkipError("not_an_image", "RT Dose")
    if found.frames > limits.max_frames:
        raise SkipError("too_large", f"{found.frames} frames")
    groups = read_groups(elements, num_frames=found.frames)
    place = pixel_place(elements, keyword)
    return ImageObject(parsed=parsed, format=found, groups=groups, place=place)


def _require_pixels(parsed: Parsed, options: ReadOptions) -> str:
    """Return the keyword of the pixels, or raise why this object has none to offer."""
    sop_class, keyword = parsed.elements.text("SOPClassUID"), pixel_keyword(parsed.elements)
    if sop_class in _LABEL_OBJECTS:
        raise SkipError("label_object", sop_class)
    if keyword == "PixelData" or (keyword and options.take_maps):
        return keyword
    if keyword:
        raise SkipError("not_selected", "floating-point pixels")
    if "Rows" in parsed.elements:
        raise SkipError("truncated", "an image without PixelData")
    if not sop_class:
        raise SkipError("missing_attribute", "neither SOPClassUID nor PixelData")
    raise SkipError("no_pixels", sop_class)
