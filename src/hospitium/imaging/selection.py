"""Which images a plan takes as cases, from what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

from hospitium.imaging.instance import Facts, Header, Instance, ReadOptions, Skip
from hospitium.plan.schema import ImagingSection

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SCREENSHOTS = ("SCREEN SAVE", "SCREENSHOT")


def select(
    facts: Facts,
    cautions: Sequence[str] = (),
    *,
    imaging: ImagingSection,
    has_geometry: bool = True,
    is_constant: bool = False,
    num_slices: int | None = None,
) -> Skip | None:
    """Return why the plan does not take an image or volume as a case, or None if it does.

    Of several reasons it is the first in the order of the specification: values before space,
    space before what was asked for. A picture file (PNG, JPEG, NIfTI) states no modality, body
    part or view: whoever put it there has selected it, and the plan's lists do not apply.

    Args:
        facts: Of the image, or of a volume's first slice.
        cautions: What its reader warned of; the plan may lift some of them.
        imaging: The plan's data contract.
        has_geometry: Whether position, orientation and spacing are known; for volumes.
        is_constant: Whether all valid pixels are equal, where they have been looked at.
        num_slices: Of a volume, where it has been assembled.
    """
    for reason, detail in (
        _of_values(facts, cautions, imaging, is_constant=is_constant),
        _of_space(facts, cautions, imaging, has_geometry=has_geometry, num_slices=num_slices),
        _of_choice(facts, imaging),
        _of_origin(facts, cautions, imaging),
    ):
        if reason:
            return Skip(reason=reason, detail=detail)
    return None


def select_header(found: Header | Instance, *, imaging: ImagingSection) -> Skip | None:
    """Return why the plan does not take an object, from its header alone, or None if it does."""
    return select(
        found.facts,
        found.cautions,
        imaging=imaging,
        has_geometry=found.placements is not None,
    )


def read_options(imaging: ImagingSection) -> ReadOptions:
    """Return what the plan asks of the reader."""
    return ReadOptions(apply_voi=imaging.voi == "apply", take_raw=imaging.raw == "accept")


def is_secondary_capture(facts: Facts) -> bool:
    """Return whether an object is a secondary capture, of one or more frames, or a screenshot."""
    is_class = facts.sop_class == _SECONDARY_CAPTURE or facts.sop_class.startswith(
        _SECONDARY_CAPTURE + "."
    )
    return is_class or any(part.upper() in _SCREENSHOTS for part in facts.image_type)


def is_picture(facts: Facts) -> bool:
    """Return whether an image comes from a file that is no DICOM object."""
    return not facts.sop_class and not facts.modality


def _of_values(
    facts: Facts, cautions: Sequence[str], imaging: ImagingSection, *, is_constant: bool
) -> tuple[str, str]:
    is_grey = facts.photometric.startswith(("MONOCHROME", "L", "I", "1")) or not facts.photometric
    if "raw_detector" in cautions and imaging.raw == "refuse":
        return "raw_detector", ""
    if facts.is_lossy and imaging.lossy == "refuse":
        return "lossy_not_in_plan", ""
    if not is_grey and imaging.pipeline.channels == 1:
        return "colour_not_in_plan", facts.photometric
    return ("constant", "") if is_constant else ("", "")


def _of_space(
    facts: Facts,
    cautions: Sequence[str],
    imaging: ImagingSection,
    *,
    has_geometry: bool,
    num_slices: int | None,
) -> tuple[str, str]:
    is_volume = imaging.kind == "volume"
    if not is_volume and not _has_spacing(facts, imaging):
        return "spacing_not_in_plan", facts.spacing_kind
    if "not_selected" in cautions:
        return "not_selected", "the reader says so: a localizer"
    if not is_volume and facts.frames > 1:
        return "not_selected", f"{facts.frames} frames"
    if is_volume and not has_geometry:
        return "no_geometry", ""
    if "mosaic" in cautions:
        return "mosaic", ""
    if is_volume and num_slices is not None and num_slices < imaging.min_slices:
        return "too_few_slices", f"{num_slices} slices"
    return "", ""


def _has_spacing(facts: Facts, imaging: ImagingSection) -> bool:
    """Return whether a spacing of an accepted kind is known; sections of CT and MR have no kind."""
    if imaging.pipeline.spacing_mm and facts.spacing_mm is None:
        return False
    kind = facts.spacing_kind or ("none" if facts.spacing_mm is None else "")
    return not imaging.spacing_kinds or not kind or kind in imaging.spacing_kinds


def _of_choice(facts: Facts, imaging: ImagingSection) -> tuple[str, str]:
    if is_picture(facts):
        return "", ""
    for wanted, found in (
        (imaging.modalities, facts.modality),
        (imaging.body_parts, facts.body_part),
        (imaging.views, facts.view),
    ):
        if wanted and found.strip().upper() not in wanted:
            return "not_selected", f"{found or 'nothing'} is not one of {', '.join(wanted)}"
    return "", ""


def _of_origin(facts: Facts, cautions: Sequence[str], imaging: ImagingSection) -> tuple[str, str]:
    if imaging.secondary_capture == "refuse" and is_secondary_capture(facts):
        return "secondary_capture", ""
    if imaging.burned_in == "refuse" and ("burned_in" in cautions or facts.burned_in == "YES"):
        return "burned_in", ""
    lifted = ("raw_detector", "burned_in", "secondary_capture")
    return next(((code, "") for code in cautions if code not in lifted), ("", ""))
