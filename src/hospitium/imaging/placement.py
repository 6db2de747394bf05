"""Where frames lie in the patient, how far their pixels are apart, and which way up they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hospitium.imaging.chains import is_projection
from hospitium.imaging.elements import Elements
from hospitium.imaging.groups import Groups
from hospitium.imaging.instance import Placement, SkipError

_MEASURES, _POSITION = "PixelMeasuresSequence", "PlanePositionSequence"
_ORIENTATION = "PlaneOrientationSequence"


def placements(
    elements: Elements, groups: Groups, *, num_frames: int
) -> tuple[Placement, ...] | None:
    """Return the place of each frame, None unless all are there and legible.

    An object of one frame may have them outside of functional groups.
    """
    found = []
    for frame in range(num_frames):
        scopes = tuple(
            groups.macro(keyword, frame) or (elements if num_frames == 1 else None)
            for keyword in (_POSITION, _ORIENTATION, _MEASURES)
        )
        position, orientation, spacing = (
            _numbers(scope, keyword, count)
            for scope, (keyword, count) in zip(
                scopes,
                (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)),
                strict=True,
            )
        )
        if not (position and orientation and spacing) or min(spacing) <= 0:
            return None
        found.append(
            Placement(
                position_mm=(position[0], position[1], position[2]),
                orientation=(*orientation[:3], *orientation[3:]),  # type: ignore[arg-type]
                spacing_mm=(spacing[0], spacing[1]),
            )
        )
    return tuple(found)


def spacing(elements: Elements, groups: Groups) -> tuple[tuple[float, float] | None, str]:
    """Return the distance of rows and of columns in mm, and its kind for projections.

    The kind is ``calibrated``, ``detector``, ``scanned`` or ``none`` (PS3.3 10.7.1.1 to .3),
    empty where the image is no projection. A ``PixelSpacing`` that no ``ImagerPixelSpacing``
    confirms as the detector's counts as calibrated. Spacing 0 is none.
    """
    own = _spacing(elements, "PixelSpacing")
    if not is_projection(elements):
        return own or _spacing(groups.macro(_MEASURES, 0), "PixelSpacing"), ""
    detector = _spacing(elements, "ImagerPixelSpacing")
    if own is not None and (own != detector or elements.text("PixelSpacingCalibrationType")):
        return own, "calibrated"
    if detector is not None:
        return detector, "detector"
    scanned = _spacing(elements, "NominalScannedPixelSpacing")
    return (scanned, "scanned") if scanned else (None, "none")


def flips(elements: Elements) -> tuple[bool, bool, tuple[str, ...]]:
    """Return whether rows and columns are to be reversed for display, and notes.

    A frontal projection is displayed with the patient's right at the image's left and the head
    at its top (PS3.3 C.7.6.1.1.1). Other images stay as they are.
    """
    if not is_projection(elements):
        return False, False, ()
    across, _, down = elements.text("PatientOrientation").partition("\\")
    if not across or not down:
        return False, False, ("orientation_assumed",)
    if not across.startswith(("R", "L")):
        return False, False, ()
    rows, columns = down.startswith("H"), across.startswith("R")
    return rows, columns, ("flipped",) if rows or columns else ()


def turned(place: Placement, *, shape: tuple[int, int], rows: bool, columns: bool) -> Placement:
    """Return the place of a frame of ``(row, column)`` whose rows or columns were reversed."""
    position = np.array(place.position_mm)
    along_row, along_column = np.array(place.orientation[:3]), np.array(place.orientation[3:])
    if columns:
        position = position + along_row * place.spacing_mm[1] * (shape[1] - 1)
        along_row = -along_row
    if rows:
        position = position + along_column * place.spacing_mm[0] * (shape[0] - 1)
        along_column = -along_column
    return replace(
        place,
        position_mm=tuple(position.tolist()),
        orientation=(*along_row.tolist(), *along_column.tolist()),
    )


def _spacing(scope: Elements | None, keyword: str) -> tuple[float, float] | None:
    """Return two positive distances, None where they are absent, 0 or illegible."""
    found = _numbers(scope, keyword, 2)
    return (found[0], found[1]) if found and min(found) > 0 else None


def _numbers(scope: Elements | None, keyword: str, count: int) -> tuple[float, ...]:
    """Return so many finite numbers, or none."""
    if scope is None:
        return ()
    try:
        found = scope.numbers(keyword)
    except SkipError:
        return ()
    return found if len(found) == count and all(map(math.isfinite, found)) else ()
