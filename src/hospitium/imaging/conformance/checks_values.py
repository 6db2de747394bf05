"""Checks of the values: polarity, what made the images, and whether their intensities agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from hospitium.imaging.conformance.case_facts import CaseFacts, Inventory, Levels
from hospitium.imaging.conformance.check import Check, Rule, Status, by_share, percent, plural
from hospitium.plan import Plan

POLARITY = Rule(
    name="C12 polarity",
    expected="lungs darker than the mediastinum in at least 95 % of frontal chest radiographs",
    remedy="Look at PhotometricInterpretation and PresentationLUTShape of the device named here: "
    "its images are turned over.",
    who="engineer",
)
KINDS = Rule(
    name="C13 kinds of images",
    expected="no kind of image that the plan refuses",
    remedy="Confirm that these images are wanted, or amend the plan.",
    who="lead",
)
BURNED_IN = Rule(
    name="C14 burnt-in text",
    expected="no image with text in its pixels, and none that nobody has looked at",
    remedy="Look through the review queue, and exclude what shows names or dates.",
    who="steward",
)
INTENSITY = Rule(
    name="C18 intensity ranges",
    expected="intensities of all cases within a factor of four, as stored or after the plan's "
    "intensity step",
    remedy='Set imaging.pipeline.intensity to "percentile" (or "zscore" for MR) in the plan, so '
    "that every case is scaled by its own values.",
    who="lead",
)
REVIEWED_MODALITIES = frozenset({"US", "SC", "XA", "ES", "OT"})
"""Where text in the pixels is common, and a header without BurnedInAnnotation says nothing."""

MOST_APART = 4.0
"""The 95th percentile of the cases' ranges may be so many times the 5th."""

_REFUSED = ("lossy_not_in_plan", "spacing_not_in_plan", "raw_detector", "colour_not_in_plan")
_PER_IMAGE = frozenset({"percentile", "zscore"})


def check_polarity(inventory: Inventory) -> Check:
    """C12: lungs brighter than what lies between them."""
    chests = [case for case in inventory.cases if case.lung_contrast is not None]
    if not chests:
        return POLARITY.judged("PASS", "no frontal chest radiographs in this plan")
    turned = [case for case in chests if (case.lung_contrast or 0.0) < 0]
    status = by_share(len(turned), len(chests), warn_above=0.05, fail_above=0.50)
    devices = Counter(_device(case) for case in turned)
    named = "".join(f"; {count:,} from {device}" for device, count in devices.most_common(3))
    return POLARITY.judged(
        status,
        f"{percent(len(turned), len(chests))} have lungs brighter than the mediastinum"
        f"{named if status != 'PASS' else ''}",
        tables={"polarity": {"as expected": len(chests) - len(turned), "turned": len(turned)}},
        examples=[(case, "turned over?") for case in turned],
    )


def check_kinds(inventory: Inventory) -> Check:
    """C13: scanners, bit depth, compression and spacing kind; what the plan refuses."""
    refused = {reason: inventory.skipped.get(reason, 0) for reason in _REFUSED}
    count = sum(refused.values())
    whole = len(inventory.cases) + count
    status = by_share(count, whole, warn_above=0.0, fail_above=0.01)
    mixes = kinds_of(inventory.cases)
    words = "; ".join(
        f"{what}: " + ", ".join(f"{kind} ({found:,})" for kind, found in list(mix.items())[:6])
        for what, mix in mixes.items()
    )
    bad = "".join(f"; {found:,} refused as {reason}" for reason, found in refused.items() if found)
    return KINDS.judged(status, f"{words}{bad}", tables={"refused": refused})


def check_burned_in(inventory: Inventory) -> Check:
    """C14: text that is known to be in the pixels, and images that a person must look through."""
    known = [(case, "burnt-in text") for case in inventory.cases if case.facts.burned_in == "YES"]
    queue = [
        (case, "review: text?")
        for case in inventory.cases
        if case.facts.modality in REVIEWED_MODALITIES and case.facts.burned_in != "NO"
        and case.facts.burned_in != "YES"
    ]  # fmt: skip
    kept_out = inventory.skipped.get("burned_in", 0)
    return BURNED_IN.judged(
        "FAIL" if known else "WARN" if queue else "PASS",
        f"{plural(len(known), 'selected image')} with burnt-in text, {len(queue):,} to look "
        f"through, {kept_out:,} left out",
        tables={"burned_in": {"selected": len(known), "queue": len(queue), "left out": kept_out}},
        examples=[*known, *queue],
    )


def check_intensity(inventory: Inventory, plan: Plan) -> Check:
    """C18: ranges of values that differ wildly between cases, and whether the plan cures it.

    The range of a case is that of its 1st to 99th percentile. It passes where ranges agree as they
    are stored, or after the plan's intensity step. Scaling by the range of the file is no cure
    where files do not declare one (NIfTI): it then hangs on a single bright voxel.
    """
    method = plan.imaging.pipeline.intensity
    stored = _apart([case.levels for case in inventory.cases])
    after = _apart([case.harmonised for case in inventory.cases])
    lows, highs = _ends(inventory.cases)
    told = f"ranges of the cases are {_times(stored)} apart as stored ({lows:g} to {highs:g})"
    if stored <= MOST_APART:
        return INTENSITY.judged("PASS", told)
    told += f", and {_times(after)} after the plan's {method}"
    undeclared = sum("range_assumed" in case.notes for case in inventory.cases)
    is_guessed = method == "range" and undeclared > 0.05 * len(inventory.cases)
    is_cured = after <= MOST_APART and not is_guessed
    status: Status = "PASS" if is_cured else "WARN" if after <= MOST_APART else "FAIL"
    wild = _farthest(inventory.cases)
    remedy = None
    if method in _PER_IMAGE:
        remedy = (
            f"Each case is scaled by its own values already ({method}), and they still differ: "
            "look at the cases below; they may be of another kind, or mostly empty."
        )
    return INTENSITY.judged(
        status, told if is_cured else f"{told}{_by_kind(inventory.cases)}", examples=wild,
        remedy=remedy,
    )  # fmt: skip


def kinds_of(cases: Sequence[CaseFacts]) -> dict[str, dict[str, int]]:
    """Return how many cases there are of each scanner, depth, compression and spacing kind."""
    mixes = {
        "scanner": Counter(_device(case) for case in cases),
        "bits": Counter(str(case.facts.bits_stored) for case in cases),
        "compression": Counter("lossy" if _is_lossy(case) else "lossless" for case in cases),
        "kind of spacing": Counter(case.facts.spacing_kind or "none told" for case in cases),
    }
    return {what: dict(mix.most_common()) for what, mix in mixes.items()}


def _device(case: CaseFacts) -> str:
    named = " ".join(part for part in (case.facts.manufacturer, case.facts.model) if part)
    return named or "unnamed device"


def _is_lossy(case: CaseFacts) -> bool:
    return case.facts.is_lossy or "lossy" in case.notes


def _apart(levels: Sequence[Levels]) -> float:
    """Return how many times the 95th percentile of the ranges is the 5th; 1 for a single case."""
    spreads = np.array([level.spread for level in levels], dtype=np.float64)
    if len(spreads) < 2:
        return 1.0
    low, high = np.percentile(spreads, (5, 95), method="nearest")
    if low <= 0:
        return 1.0 if high <= 0 else float("inf")
    return float(high / low)


def _ends(cases: Sequence[CaseFacts]) -> tuple[float, float]:
    spreads = [case.levels.spread for case in cases]
    return min(spreads, default=0.0), max(spreads, default=0.0)


def _times(factor: float) -> str:
    if np.isinf(factor):
        return "infinitely far"
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.1f} times"


def _farthest(cases: Sequence[CaseFacts]) -> list[tuple[CaseFacts, str]]:
    """Return the cases with the narrowest and the widest ranges."""
    ordered = sorted(cases, key=lambda case: (case.levels.spread, case.name))
    ends = [*ordered[:4], *ordered[-4:]]
    return [(case, f"values {case.levels.low:g} to {case.levels.high:g}") for case in ends]


def _by_kind(cases: Sequence[CaseFacts]) -> str:
    """Return the middle range of each scanner and bit depth, where there are several."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for case in cases:
        groups[f"{_device(case)}, {case.facts.bits_stored} bits"].append(case.levels.spread)
    if len(groups) < 2:
        return ""
    parts = [f"{kind}: {np.median(found):g}" for kind, found in sorted(groups.items())[:6]]
    return "; middle range by kind: " + "; ".join(parts)
