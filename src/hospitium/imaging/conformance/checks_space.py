"""Checks of space: spacing and size against the plan, orientation, and masks on their images."""

from __future__ import annotations

from hospitium.imaging.conformance.case_facts import CaseFacts, Inventory
from hospitium.imaging.conformance.check import Check, Rule, by_share, percent, worst
from hospitium.imaging.conformance.checks_labels import is_segmentation
from hospitium.plan import Plan

GRID = Rule(
    name="C10 spacing and size",
    expected="at least 95 % of cases within a factor of two of the plan's spacing and size",
    remedy="Check that the right series was selected; else amend the plan's spacing or size.",
    who="steward, lead",
)
ORIENTATION = Rule(
    name="C11 orientation known",
    expected="at most 5 % of images without PatientOrientation",
    remedy="Let the source write PatientOrientation, or exclude the view.",
    who="steward",
)
MASKS = Rule(
    name="C15 masks",
    expected="a mask for every case, on the image's grid, that keeps its volume",
    remedy="Export the masks on the image's own grid, and look at those that are empty.",
    who="steward",
)
FACTOR = 2.0


def check_grid(inventory: Inventory, plan: Plan) -> Check:
    """C10: cases that the plan's grid would stretch, cut or blow up more than twofold."""
    reasons = {case.name: _off_grid(case, plan) for case in inventory.cases}
    outside = [(case, reasons[case.name]) for case in inventory.cases if reasons[case.name]]
    whole = len(inventory.cases)
    status = by_share(len(outside), whole, warn_above=0.05, fail_above=0.50)
    pipeline = plan.imaging.pipeline
    target = " x ".join(str(side) for side in pipeline.size) or "any size"
    if pipeline.spacing_mm:
        target += " at " + " x ".join(f"{step:g}" for step in pipeline.spacing_mm) + " mm"
    return GRID.judged(
        status,
        f"{percent(len(outside), whole)} cases are far from {target}{_ranges(inventory)}",
        tables={"grid": {"inside": whole - len(outside), "outside": len(outside)}},
        examples=outside,
    )


def check_orientation(inventory: Inventory) -> Check:
    """C11: DICOM projections of which nobody says which side is left."""
    known = [case for case in inventory.cases if case.facts.modality]
    assumed = [(case, "orientation assumed") for case in known
               if "orientation_assumed" in case.notes]  # fmt: skip
    status = by_share(len(assumed), len(known), warn_above=0.05)
    if not known:
        return ORIENTATION.judged("PASS", "no DICOM images: taken as they are displayed")
    return ORIENTATION.judged(
        status,
        f"{percent(len(assumed), len(known))} images do not say how they are turned",
        tables={"orientation": {"known": len(known) - len(assumed), "assumed": len(assumed)}},
        examples=assumed,
    )


def check_masks(inventory: Inventory, plan: Plan) -> Check:
    """C15: masks that are off the grid, missing, empty, or shrunk by the plan's grid."""
    if not is_segmentation(plan):
        return MASKS.judged("PASS", "the plan needs no masks")
    masks = [(case, case.mask) for case in inventory.cases if case.mask is not None]
    off = [(case, mask.reason) for case, mask in masks if mask.reason]
    weak = [
        (case, "empty" if not mask.values else "shrunk")
        for case, mask in masks
        if not mask.reason and (not mask.values or "mask_shrunk" in mask.notes)
    ]
    whole = len(inventory.cases)
    status = worst(
        [
            by_share(len(off), whole, warn_above=0.0, fail_above=0.05),
            by_share(len(weak), whole, warn_above=0.05),
        ]
    )
    good = whole - len(off) - len(weak)
    return MASKS.judged(
        status,
        f"{percent(good, whole)} cases have a usable mask; {len(off):,} are missing or off the "
        f"image's grid, {len(weak):,} are empty or shrunk",
        tables={"masks": {"good": good, "off the grid": len(off), "weak": len(weak)}},
        examples=[*off, *weak],
    )


def _off_grid(case: CaseFacts, plan: Plan) -> str:
    """Return what is far from the plan about a case's grid, in a few words; or nothing."""
    pipeline = plan.imaging.pipeline
    wanted_mm = tuple(pipeline.spacing_mm)
    if wanted_mm:
        if case.spacing_mm is None:
            return "no spacing"
        if not _near(case.spacing_mm, wanted_mm):
            return f"spacing {_steps(case.spacing_mm)} mm"
    if len(case.shape) == len(pipeline.size) == 3:
        found = _extent(case.shape, case.spacing_mm if wanted_mm else None)
        wanted = _extent(tuple(int(side) for side in pipeline.size), wanted_mm or None)
        return "" if _near(found, wanted) else f"size {_steps(case.shape)}"
    too_small = max(
        (side / found for side, found in zip(pipeline.size, case.shape, strict=False)), default=0.0
    )
    return f"size {_steps(case.shape)}" if too_small > FACTOR else ""


def _extent(shape: tuple[int, ...], spacing_mm: tuple[float, ...] | None) -> tuple[float, ...]:
    """Return the length of each axis in millimetres, or in voxels without a spacing."""
    steps = spacing_mm or (1.0,) * len(shape)
    return tuple(side * step for side, step in zip(shape, steps, strict=False))


def _near(found: tuple[float, ...], wanted: tuple[float, ...]) -> bool:
    pairs = zip(found, wanted, strict=False)
    return all(wanted / FACTOR <= found <= wanted * FACTOR for found, wanted in pairs)


def _steps(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _ranges(inventory: Inventory) -> str:
    """Return from where to where sizes and spacings go, for the site's own eyes."""
    words = ""
    for what, unit, values in (
        ("sizes", "", [case.shape for case in inventory.cases]),
        ("spacings", " mm", [case.spacing_mm for case in inventory.cases if case.spacing_mm]),
    ):
        if values and len({len(value) for value in values}) == 1:
            low = tuple(min(axis) for axis in zip(*values, strict=True))
            high = tuple(max(axis) for axis in zip(*values, strict=True))
            words += f"; {what} {_steps(low)} to {_steps(high)}{unit}"
    return words
