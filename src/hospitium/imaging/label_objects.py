"""What SEG and RTSTRUCT objects share: how they are opened, placed, and their structures chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hospitium.imaging.elements import Elements
from hospitium.imaging.geometry import Volume, slices_grid
from hospitium.imaging.grid import SAME_PLACE_MM, Grid
from hospitium.imaging.instance import Limits, Mask, SkipError
from hospitium.imaging.parsing import Parsed, parse

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SEGMENTATION = _STORAGE + "66.4"
LABEL_MAP = _STORAGE + "66.7"
STRUCTURE_SET = _STORAGE + "481.3"

_CHARACTER_SET = 0x00080005
_MAX_ELEMENTS = 1 << 19  # contours are many
_VISITS = 4  # of each element, by those who ask for its sequence
_OFF = 0.1  # of the distance of slices, or of pixels
_MOST_LABELS = 255


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One segment or region of interest.

    Attributes:
        number: By which it is referred to.
        codes: What it is, in lower case: ``scheme:value`` and meaning of its code.
        label: What people call it, in lower case.
    """

    number: int
    codes: tuple[str, ...]
    label: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """Where labels are drawn: on the slices of a volume.

    Attributes:
        volume: That the labels are for.
        grid: How its slices lie.
        labels: ``(slice, row, column)`` uint8, canonical: see `Grid`.
        off_plane_mm: How far from its plane a slice's label may lie.
        off_pixel: How far from the centre of a pixel that of a label's may lie, in pixels.
    """

    volume: Volume
    grid: Grid
    labels: npt.NDArray[np.uint8]
    off_plane_mm: float
    off_pixel: float


def open_object(raw: bytes, *, sop_classes: Iterable[str], limits: Limits) -> Parsed:
    """Parse a label object.

    Raises:
        SkipError: What `parse` raises; ``not_selected`` if it is of another class.
    """
    found = parse(raw, limits=limits, max_elements=_MAX_ELEMENTS)
    sop_class = found.elements.text("SOPClassUID")
    if sop_class not in sop_classes:
        raise SkipError("not_selected", f"no such label object: {sop_class}")
    found.elements.walker.budget = _VISITS * _MAX_ELEMENTS
    return found


def new_drawing(volume: Volume, frame_of_reference: str) -> Drawing:
    """Return an empty drawing, once the frames of reference are known to be one.

    Within one frame of reference labels may lie a tenth of a voxel off the grid. Where neither
    side names any, they must lie on it to 0.001 mm.

    Raises:
        SkipError: ``mask_geometry``.
    """
    known = volume.uids.frame_of_reference
    if frame_of_reference != known:
        raise SkipError("mask_geometry", f"frame of reference {frame_of_reference}, not {known}")
    try:
        grid = slices_grid(volume)
    except SkipError as error:
        raise SkipError("mask_geometry", error.skip.detail) from error
    pixel_mm = float(min(np.linalg.norm(grid.row_step), np.linalg.norm(grid.column_step)))
    return Drawing(
        volume=volume,
        grid=grid,
        labels=np.zeros((grid.num_slices, grid.num_rows, grid.num_columns), np.uint8),
        off_plane_mm=_OFF * grid.gap_mm if known else SAME_PLACE_MM,
        off_pixel=_OFF if known else min(_OFF, SAME_PLACE_MM / pixel_mm),
    )


def paint(
    labels: npt.NDArray[np.uint8],
    where: Mask | tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    value: int,
) -> bool:
    """Set a label in place, the higher of two on one pixel; return whether there were two.

    Args:
        labels: ``(row, column)`` of one slice.
        where: A mask of it, or rows and columns.
        value: The label. In whatever order labels are painted, the result is the same.
    """
    under = labels[where]
    labels[where] = np.maximum(under, value)
    return bool(((under != 0) & (under != value)).any())


# --- structures --------------------------------------------------------------------------------


def choose(structures: Sequence[Structure], names: Sequence[str]) -> dict[int, int]:
    """Return the label of each structure that is asked for, by its number.

    Args:
        structures: Of the object.
        names: Each is a code (``SCT:10200004``), a code's meaning, or a label, in this order, upper
            or lower case. The first is label 1. Several structures may have one name. Without
            names every structure counts, its number being its label.

    Raises:
        SkipError: ``mask_missing``: the object has none of them; ``mask_values``.
    """
    if not names:
        if any(not 1 <= found.number <= _MOST_LABELS for found in structures):
            raise SkipError("mask_values", "a structure's number is no label of 1 to 255")
        return {found.number: found.number for found in structures}
    chosen: dict[int, int] = {}
    for value, name in enumerate(names, start=1):
        wanted = name.strip().casefold()
        matches = [found for found in structures if wanted in found.codes]
        matches = matches or [found for found in structures if found.label == wanted]
        chosen.update({found.number: value for found in matches})
    if not chosen:
        raise SkipError("mask_missing", "none of the structures that the plan names")
    return chosen


def codes(item: Elements, keyword: str) -> tuple[str, ...]:
    """Return the codes of a code sequence, as `Structure` has them."""
    found: list[str] = []
    for code in item.items(keyword):
        scheme, value = code.text("CodingSchemeDesignator"), code.text("CodeValue")
        found += [f"{scheme}:{value or code.text('LongCodeValue')}"]
        found += [inheriting(code, item).name("CodeMeaning")]
    return tuple(text.strip().casefold() for text in found if text)


def inheriting(item: Elements, parent: Elements) -> Elements:
    """Return an item that knows the character set of the data set in which it is."""
    place = parent.places.get(_CHARACTER_SET)
    return item if place is None else replace(item, places={_CHARACTER_SET: place, **item.places})
