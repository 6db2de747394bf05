"""What one image says to a fingerprint: the cell of each field, and nothing that names anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.fingerprint.histograms import (
    EMPTY,
    FIELDS,
    MAX_LABELS,
    NONE,
    QUANTILES,
    field_of,
    field_strength_name,
    kvp_name,
    mask_field,
)
from hospitium.imaging.instance import Facts, Mask
from hospitium.imaging.minimise import vendor

Votes: TypeAlias = Mapping[str, str]
"""The cell of each field; a field that is not named is ``none``."""

_MOST_VALUES = 1 << 21
_OTSU_BINS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """An image or a volume, as far as a fingerprint looks at it.

    Attributes:
        values: Grey values in any shape of two or three axes, in physical units.
        spacing_mm: Of each axis, None where it is unknown.
        is_valid: Where the values are image; None: everywhere.
        mask: Labels on the same grid, 0 for background; None: there is no mask.
        facts: What the header says.
        is_colour: Whether the grey values were made from colour.
        bits: Of a stored value, ``"8"`` to ``"64"``; empty where nobody knows.
        is_lossy: Whether it was compressed with loss; None where nobody knows.
        label: The name of its class, empty where there is none.
        labels: Values that the masks of this data set hold; empty takes those of this mask.
        has_own_scale: Whether the values are on the scale of the file.
    """

    values: npt.NDArray[Any]
    spacing_mm: tuple[float, ...] | None = None
    is_valid: Mask | None = None
    mask: npt.NDArray[np.integer[Any]] | None = None
    facts: Facts | None = None
    is_colour: bool = False
    bits: str = ""
    is_lossy: bool | None = None
    label: str = ""
    labels: tuple[int, ...] = ()
    has_own_scale: bool = True


def measure(picture: Picture) -> Votes:
    """Return the cell of each field for one image; fields without a value are left out."""
    found: dict[str, float | str | None] = {"class": picture.label, "bits": picture.bits}
    found["colour"] = _yes_no(picture.is_colour)
    found["lossy"] = _yes_no(picture.is_lossy)
    for axis, size in enumerate(picture.values.shape):
        found[f"matrix.{axis}"] = size
    for axis, mm in enumerate(picture.spacing_mm or ()):
        found[f"spacing_mm.{axis}"] = mm
    found |= _of_facts(picture.facts)
    found |= _of_values(picture)
    found |= _of_mask(picture)
    votes = {}
    for name, value in found.items():
        known = field_of(name)
        assert known is not None, name
        cell = known.cell(value)
        if cell != NONE:
            votes[name] = cell
    return MappingProxyType(votes)


def _yes_no(is_so: bool | None) -> str:
    return "" if is_so is None else "yes" if is_so else "no"


def _of_facts(facts: Facts | None) -> dict[str, float | str | None]:
    """Return what the header adds; every text is matched against a closed list."""
    if facts is None:
        return {}
    kind = "undeclared" if facts.spacing_kind == "none" else facts.spacing_kind
    photometric = facts.photometric
    return {
        "modality": facts.modality,
        "spacing_kind": kind,
        "monochrome1": _yes_no(photometric == "MONOCHROME1") if photometric else "",
        "manufacturer": vendor(facts.manufacturer),
        "field_strength": field_strength_name(facts.field_strength),
        "kvp": kvp_name(facts.kvp),
        "age_band": facts.age_band,
        "sex": facts.sex,
    }


def _of_values(picture: Picture) -> dict[str, float | str | None]:
    """Return percentiles of the foreground, and how much of the image it is."""
    values, valid, mask = _thinned(picture)
    values, mask = (values, mask) if valid is None else (values[valid], _at(mask, valid))
    if values.size == 0:
        return {}
    is_ct = picture.facts is not None and picture.facts.modality == "CT"
    low, high = (float(end) for end in np.percentile(values, (1, 99)))
    inside = mask > 0 if mask is not None and mask.any() else values > otsu(values)
    found: dict[str, float | str | None] = {"foreground": float(inside.mean())}
    foreground = values[inside] if inside.any() else values
    percentiles = np.percentile(foreground, QUANTILES)
    if is_ct:
        return found | {f"hu.p{q:g}": float(p) for q, p in zip(QUANTILES, percentiles, strict=True)}
    if picture.has_own_scale:
        found["scale"] = high
    if high > low:
        scaled = (percentiles - low) / (high - low)
        found |= {
            f"intensity.p{q:g}": float(p) for q, p in zip(QUANTILES, scaled, strict=True)
        }  # fmt: skip
    return found


def _thinned(
    picture: Picture,
) -> tuple[npt.NDArray[np.float64], Mask | None, npt.NDArray[Any] | None]:
    """Return about two million values at most, evenly spaced, and what belongs to them."""
    size = picture.values.size
    step = max(1, -(-size // _MOST_VALUES))
    values = picture.values.reshape(-1)[::step].astype(np.float64)
    valid = None if picture.is_valid is None else picture.is_valid.reshape(-1)[::step]
    mask = None if picture.mask is None else picture.mask.reshape(-1)[::step]
    finite = np.isfinite(values)
    if not finite.all():
        valid = finite if valid is None else valid & finite
    return values, valid, mask


def _at(mask: npt.NDArray[Any] | None, where: Mask) -> npt.NDArray[Any] | None:
    return None if mask is None else mask[where]


def _of_mask(picture: Picture) -> dict[str, float | str | None]:
    """Return the volume of each label in ml; without a spacing there is none."""
    mask, spacing = picture.mask, picture.spacing_mm
    if mask is None or spacing is None or len(spacing) != mask.ndim or mask.ndim != 3:
        return {}
    voxel_ml = float(np.prod(spacing)) / 1000
    counts = np.bincount(mask.reshape(-1), minlength=MAX_LABELS + 1)
    labels = picture.labels or tuple(int(label) for label in np.flatnonzero(counts) if label)
    return {
        mask_field(label): float(counts[label]) * voxel_ml if counts[label] else EMPTY
        for label in labels
        if 1 <= label <= MAX_LABELS
    }


def otsu(values: npt.NDArray[np.float64]) -> float:
    """Return the threshold that parts values into two groups of least inner variance.

    Otsu, IEEE Trans. Systems, Man and Cybernetics 9 (1979), on 256 bins between the lowest and
    the highest value; that value itself where all are equal.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    counts, edges = np.histogram(values, bins=_OTSU_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1:-1][int(np.argmax(between))])


def vote(images: list[Votes]) -> Votes:
    """Return a subject's one vote in each field: the middle bin, or the most frequent name.

    Of two middle bins the lower one is taken, of two equally frequent names the first in the
    alphabet, so that the order of a subject's images does not matter.
    """
    names = sorted({name for votes in images for name in votes})
    return {name: _one(name, [votes[name] for votes in images if name in votes]) for name in names}


def _one(name: str, cells: list[str]) -> str:
    known = FIELDS.get(name) or field_of(name)
    assert known is not None
    bins = sorted(int(cell) for cell in cells if cell.isdigit()) if known.is_ordered else []
    if bins and 2 * len(bins) >= len(cells):
        return str(bins[(len(bins) - 1) // 2])
    return min(set(cells), key=lambda cell: (-cells.count(cell), cell))
