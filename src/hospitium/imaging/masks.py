"""DICOM masks of either kind -> labels on a volume's grid."""

from __future__ import annotations

from collections.abc import Sequence

from hospitium.imaging.contours import read_rtstruct
from hospitium.imaging.geometry import Volume
from hospitium.imaging.instance import Limits, Skip
from hospitium.imaging.labels import LabelMap, is_shrunk, volume_ml
from hospitium.imaging.segmentations import read_seg

__all__ = ["LabelMap", "is_shrunk", "read_mask", "read_rtstruct", "read_seg", "volume_ml"]


def read_mask(
    raw: bytes,
    *,
    volume: Volume,
    structures: Sequence[str] = (),
    threshold: float | None = None,
    limits: Limits | None = None,
) -> LabelMap | Skip:
    """Read a SEG or an RTSTRUCT, whichever it is; see `read_seg` and `read_rtstruct`."""
    found = read_seg(raw, volume=volume, structures=structures, threshold=threshold, limits=limits)
    if isinstance(found, Skip) and found.reason == "not_selected":
        return read_rtstruct(raw, volume=volume, structures=structures, limits=limits)
    return found
