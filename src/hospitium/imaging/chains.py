"""Reads the value chain of each frame from a header: what stored numbers mean."""

from __future__ import annotations

from collections.abc import Sequence

from hospitium.imaging.elements import Elements
from hospitium.imaging.groups import Groups
from hospitium.imaging.instance import ReadOptions, SkipError
from hospitium.imaging.lookup import Lookup, read_lookup
from hospitium.imaging.pixels import PixelFormat
from hospitium.imaging.values import Chain
from hospitium.imaging.voi import LookupToUnit, Window, read_voi

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PROJECTIONS = frozenset({"CR", "DX", "MG", "IO", "RG", "XA", "RF"})
_WITH_VOI = frozenset({"CR", "DX", "MG"})
_RESCALE, _VOI = "PixelValueTransformationSequence", "FrameVOILUTSequence"


def is_projection(elements: Elements) -> bool:
    """Return whether MONOCHROME1 is about the values, not only a hint for the display."""
    sop_class = f"{elements.text('SOPClassUID')}."  # not 1.1.77: photographs, microscopes
    is_capture = sop_class.startswith(f"{_SECONDARY_CAPTURE}.")
    return is_capture or elements.text("Modality") in _PROJECTIONS


def chains(
    elements: Elements, found: PixelFormat, groups: Groups, options: ReadOptions
) -> tuple[Sequence[Chain], tuple[str, ...]]:
    """Return the value chain of each frame of a grey object, and notes.

    Raises:
        SkipError: ``missing_attribute``, ``bad_attribute`` or ``no_rescale``.
    """
    if groups.is_shared(_RESCALE) and (groups.is_shared(_VOI) or not options.apply_voi):
        chain, notes = _chain(elements, found, groups, options, frame=0)
        return [chain] * found.frames, notes
    each = [_chain(elements, found, groups, options, frame=n) for n in range(found.frames)]
    return [chain for chain, _ in each], tuple(note for _, notes in each for note in notes)


def _chain(
    elements: Elements, found: PixelFormat, groups: Groups, options: ReadOptions, *, frame: int
) -> tuple[Chain, tuple[str, ...]]:
    """Return the value chain of one frame, and notes."""
    modality = elements.text("Modality")
    slope, intercept = _rescale(groups.macro(_RESCALE, frame) or elements)
    lookup = _modality_table(elements, found)
    notes: tuple[str, ...] = ("lut_and_rescale",) if lookup and slope is not None else ()
    if modality == "CT" and lookup is None and (slope is None or intercept is None):
        raise SkipError("no_rescale", "CT")
    is_inverted, more = _polarity(elements, found, options)
    notes += more
    voi: Window | LookupToUnit | None = None
    if options.apply_voi and modality in _WITH_VOI:
        own = groups.macro(_VOI, frame)
        is_negative = lookup is None and (found.is_signed or (intercept or 0.0) < 0)
        voi, more = read_voi([elements] if own is None else [own, elements], is_signed=is_negative)
        notes += more
    if found.bits_stored > 16 and (lookup is not None or isinstance(voi, LookupToUnit)):
        raise SkipError("bad_attribute", f"a lookup table for {found.bits_stored} bits")
    chain = Chain(
        bits_stored=found.bits_stored,
        is_signed=found.is_signed,
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        lookup=lookup,
        padding=_padding(elements, found),
        voi=voi,
        is_inverted=is_inverted,
        is_ct=modality == "CT",
    )
    return chain, notes


def _rescale(scope: Elements) -> tuple[float | None, float | None]:
    """Return slope and intercept, None where they are absent; a slope of 0 is no slope."""
    slope, intercept = scope.number("RescaleSlope"), scope.number("RescaleIntercept")
    if slope == 0:
        raise SkipError("bad_attribute", "RescaleSlope = 0")
    return slope, intercept


def _modality_table(elements: Elements, found: PixelFormat) -> Lookup | None:
    """Return the modality lookup table, None where there is none (PS3.3 C.11.1)."""
    item = elements.item("ModalityLUTSequence")
    return None if item is None else read_lookup(item, is_signed=found.is_signed)


def _polarity(
    elements: Elements, found: PixelFormat, options: ReadOptions
) -> tuple[bool, tuple[str, ...]]:
    """Return whether a frame is turned over so that light is high, and notes.

    Of detector data only ``PixelIntensityRelationshipSign`` knows: 1 where more beam, that is
    less tissue, gives higher values (PS3.3 C.8.11.3.1.2).
    """
    if not is_projection(elements):
        return False, ()
    if options.take_raw and elements.text("PresentationIntentType") == "FOR PROCESSING":
        sign = elements.integer("PixelIntensityRelationshipSign")
        if sign not in (-1, 1, 65_535):  # written as unsigned by some
            raise SkipError("bad_attribute", f"PixelIntensityRelationshipSign = {sign}")
        return sign == 1, ("inverted",) if sign == 1 else ()
    is_inverted = found.photometric == "MONOCHROME1"
    notes: tuple[str, ...] = ("inverted",) if is_inverted else ()
    shape = elements.text("PresentationLUTShape")
    if shape == ("IDENTITY" if is_inverted else "INVERSE"):
        notes += ("polarity_conflict",)
    return is_inverted, notes


def _padding(elements: Elements, found: PixelFormat) -> tuple[int, int] | None:
    """Return the inclusive range of stored values that are padding (PS3.3 C.7.5.1.1.2)."""
    value = elements.number("PixelPaddingValue")
    if value is None:
        return None
    first = int(value)
    last = elements.integer("PixelPaddingRangeLimit", default=first)
    if found.is_signed:  # the bits of a negative value may be given as unsigned
        first, last = (v - 65_536 if v >= 32_768 else v for v in (first, last))
    else:
        first, last = (v + 65_536 if v < 0 else v for v in (first, last))
    return min(first, last), max(first, last)
