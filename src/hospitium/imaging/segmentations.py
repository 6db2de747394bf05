"""SEG -> labels: each frame of a segmentation onto the slice of the volume that it was drawn on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.canvas import labels_on_grid
from hospitium.imaging.decoding import decode
from hospitium.imaging.elements import Elements
from hospitium.imaging.geometry import Volume
from hospitium.imaging.instance import Limits, Mask, Skip, SkipError
from hospitium.imaging.label_objects import (
    LABEL_MAP,
    SEGMENTATION,
    Structure,
    choose,
    codes,
    inheriting,
    new_drawing,
    open_object,
)
from hospitium.imaging.labels import LabelMap, resampled_notes
from hospitium.imaging.parsing import Parsed
from hospitium.imaging.pixels import check_size, pixel_format, pixel_place
from hospitium.imaging.planes import Plane, draw, read_plane

_GROUPS = (
    "SegmentIdentificationSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
)
_Source: TypeAlias = tuple[str, int | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frame:
    """What is known of one frame: its segment (0 in a label map), its sources, its plane."""

    segment: int
    sources: tuple[_Source, ...]
    plane: Plane | None


def read_seg(
    raw: bytes,
    *,
    volume: Volume,
    structures: Sequence[str] = (),
    threshold: float | None = None,
    limits: Limits | None = None,
) -> LabelMap | Skip:
    """Read a segmentation as labels on a volume's grid (PS3.3 A.51, C.8.20.2).

    A frame belongs to the slice whose ``SOPInstanceUID`` it was derived from, else to the slice
    in whose plane it lies; either way it must lie on the slice's pixels.

    Args:
        raw: A whole DICOM file: BINARY, LABELMAP or FRACTIONAL.
        volume: That the segmentation was made for.
        structures: Which segments become label 1, 2 and so on: see `choose`.
        threshold: From which share, of 0 to 1, a fractional segment counts; without one it is
            ``mask_values``.
        limits: What is refused before it is parsed or decoded.

    Returns:
        The labels, or why there are none: ``mask_geometry``, ``mask_values``, ``mask_missing``,
        or what is wrong with the file.
    """
    try:
        return _labels(raw, volume, structures, threshold, limits or Limits())
    except SkipError as error:
        return error.skip


def _labels(
    raw: bytes, volume: Volume, names: Sequence[str], threshold: float | None, limits: Limits
) -> LabelMap:
    parsed = open_object(raw, sop_classes=(SEGMENTATION, LABEL_MAP), limits=limits)
    root = parsed.elements
    structures = _structures(root)
    chosen = choose(structures, names)
    known = {found.number for found in structures}
    drawing = new_drawing(volume, root.text("FrameOfReferenceUID"))
    level, notes = _level(root, threshold)
    slices = _Slices(volume.slices, drawing.grid.order)
    is_overlap = False
    frames = _frames(root)
    if not {frame.segment for frame in frames} <= {0, *known}:
        raise SkipError("mask_values", "a frame of a segment that is not described")
    for number, words in enumerate(_words(parsed, limits)):
        frame = frames[number]
        for segment, mask in _masks(words, frame.segment, known, level):
            if segment in chosen and mask.any():
                is_overlap |= draw(
                    drawing,
                    mask,
                    chosen[segment],
                    plane=frame.plane,
                    slice_number=slices.number(frame.sources),
                )
    labels = labels_on_grid(drawing.labels, drawing.grid)
    notes += ("mask_overlap",) if is_overlap else ()
    return LabelMap(
        labels=labels,
        affine=volume.affine,
        notes=notes + resampled_notes(drawing.labels, labels, drawing.grid),
    )


class _Slices:
    """Finds the slice that a frame was derived from, by what the source image is called."""

    def __init__(self, names: Sequence[_Source], order: Sequence[int]) -> None:
        self._numbers: dict[tuple[str, int | None], set[int]] = {}
        for place, number in enumerate(order if names else ()):
            uid, frame = names[number]
            for key in ((uid, frame), (uid, None)):
                self._numbers.setdefault(key, set()).add(place)

    def number(self, sources: Sequence[_Source]) -> int | None:
        """Return the one canonical slice among the sources, None if there is none or several."""
        found = {place for source in sources for place in self._numbers.get(source, ())}
        return found.pop() if len(found) == 1 else None


# --- the object --------------------------------------------------------------------------------


def _structures(root: Elements) -> list[Structure]:
    structures = []
    for item in root.items("SegmentSequence"):
        item = inheriting(item, root)
        structures.append(
            Structure(
                number=item.integer("SegmentNumber"),
                codes=codes(item, "SegmentedPropertyTypeCodeSequence"),
                label=item.name("SegmentLabel").casefold(),
            )
        )
    return [found for found in structures if found.number != 0]  # 0: a label map's background


def _level(root: Elements, threshold: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Return the value from which a fractional segment counts, None for others, and notes."""
    kind = root.text("SegmentationType")
    if kind in ("BINARY", "LABELMAP"):
        return None, ()
    if kind != "FRACTIONAL":
        raise SkipError("bad_attribute", f"SegmentationType = {kind[:16]}")
    if threshold is None:
        raise SkipError("mask_values", "a fractional segmentation, and the plan has no threshold")
    return threshold * root.integer("MaximumFractionalValue"), ("fractional",)


def _frames(root: Elements) -> list[_Frame]:
    """Return what the functional groups tell of each frame (PS3.3 C.7.6.16)."""
    shared = root.item("SharedFunctionalGroupsSequence")
    common = {keyword: shared.item(keyword) if shared else None for keyword in _GROUPS}
    is_label_map = root.text("SegmentationType") == "LABELMAP"
    frames = []
    for item in root.items("PerFrameFunctionalGroupsSequence"):
        groups = {keyword: item.item(keyword) or common[keyword] for keyword in _GROUPS}
        segment = groups["SegmentIdentificationSequence"]
        if segment is None and not is_label_map:
            raise SkipError("missing_attribute", "ReferencedSegmentNumber")
        frames.append(
            _Frame(
                segment=segment.integer("ReferencedSegmentNumber") if segment else 0,
                sources=tuple(_sources(item)),
                plane=read_plane(
                    groups["PlanePositionSequence"],
                    groups["PlaneOrientationSequence"],
                    groups["PixelMeasuresSequence"],
                ),
            )
        )
    if len(frames) != root.integer("NumberOfFrames", default=1):
        raise SkipError("bad_attribute", f"functional groups of {len(frames)} frames")
    return frames


def _sources(item: Elements) -> Iterator[_Source]:
    """Yield UID and frame, if one is named, of each image that a frame was derived from."""
    for derivation in item.items("DerivationImageSequence"):
        for source in derivation.items("SourceImageSequence"):
            uid = source.text("ReferencedSOPInstanceUID")
            frames = source.numbers("ReferencedFrameNumber")
            for frame in frames or (None,):
                yield uid, None if frame is None else int(frame)


def _words(parsed: Parsed, limits: Limits) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of each frame, ``(row, column)``."""
    root = parsed.elements
    if "PixelData" not in root:
        raise SkipError("truncated", "a segmentation without PixelData")
    if root.integer("BitsAllocated") == 1:
        yield from _bits(parsed, limits)
        return
    found = pixel_format(root, transfer_syntax=parsed.transfer_syntax, keyword="PixelData")
    place = pixel_place(root, "PixelData")
    check_size(found, place, num_bytes=len(root.walker.raw), limits=limits)
    if found.samples != 1 or found.is_signed:
        raise SkipError("bad_attribute", "a segmentation of signed or coloured pixels")
    for words, _ in decode(root, found, place):
        yield words


def _bits(parsed: Parsed, limits: Limits) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield frames of one bit a pixel, the first in the lowest bit (PS3.5 8.1.1)."""
    root = parsed.elements
    rows, columns = root.integer("Rows"), root.integer("Columns")
    frames = root.integer("NumberOfFrames", default=1)
    place = pixel_place(root, "PixelData")
    raw = root.walker.raw
    if min(rows, columns, frames) < 1:
        raise SkipError("bad_attribute", f"{frames} frames of {rows} x {columns}")
    if place.end < 0:
        raise SkipError("transfer_syntax_unsupported", f"{parsed.transfer_syntax}: bits")
    if min(place.end, len(raw)) - place.begin < (frames * rows * columns + 7) // 8:
        raise SkipError("truncated", f"bits of {frames} x {rows} x {columns}")
    if max(rows, columns) > limits.max_side or frames > limits.max_frames:
        raise SkipError("too_large", f"{frames} x {rows} x {columns}")
    size = rows * columns
    if size > limits.max_pixels:
        raise SkipError("too_large", f"{rows} x {columns}")
    for start in range(0, frames * size, size):
        first = place.begin + start // 8
        packed = np.frombuffer(raw, np.uint8, (start % 8 + size + 7) // 8, first)
        bits = np.unpackbits(packed, bitorder="little")[start % 8 :][:size]
        yield bits.reshape(rows, columns)


def _masks(
    words: npt.NDArray[Any], segment: int, known: set[int], level: float | None
) -> Iterator[tuple[int, Mask]]:
    """Yield the mask of each segment that a frame shows, whether it is asked for or not."""
    if level is not None:
        yield segment, words >= max(level, 1)
    elif segment:
        yield segment, words != 0
    else:
        found = np.unique(words)
        for number in found[found != 0].tolist():
            if number not in known:
                raise SkipError("mask_values", f"segment {number} is not described")
            yield number, words == number
