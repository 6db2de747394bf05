"""Checks of the site itself: can it train this plan, and are these the data it checked before?"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from hospitium.imaging.conformance.case_facts import Inventory, content_digest
from hospitium.imaging.conformance.check import Check, Rule, Status, plural, worst
from hospitium.imaging.conformance.checks_labels import is_segmentation
from hospitium.plan import Plan

CAPACITY = Rule(
    name="C16 disk, memory, time",
    expected="room for the prepared cases twice, a training step that works, and an epoch within a "
    "third of the round's deadline",
    remedy="Free space, choose a smaller batch, or a longer deadline.",
    who="engineer, lead",
)
SAME_DATA = Rule(
    name="C17 data set digest",
    expected="the same cases as at the last check",
    remedy="Look at what was added or is gone, then let these data be approved again.",
    who="steward, approver",
)
_BYTES_PER_VALUE = 4


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What the site's machine can do, as it was measured.

    Attributes:
        free_bytes: On the disk of the site's home folder.
        device: What trains: ``cpu``, or the name of a GPU.
        step_s: Seconds of one training step; None where none was taken.
        problem: Why a step failed; empty where none did.
        not_tried: Why no step was taken; empty where one was, or failed.
        peak_bytes: Memory that the step took; None where that is not known.
    """

    free_bytes: int
    device: str = ""
    step_s: float | None = None
    problem: str = ""
    not_tried: str = ""
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What the last check saw.

    Attributes:
        plan_digest: Of the plan that the data were checked against; its classes name the labels.
        digest: Of the data set.
        contents: `content_digest` of each case.
    """

    plan_digest: str
    digest: str
    contents: Collection[str]


def cache_bytes(inventory: Inventory, plan: Plan) -> int:
    """Return how much the prepared cases take: each an image and, in a plan of masks, a mask."""
    pipeline = plan.imaging.pipeline
    values = pipeline.channels * math.prod(pipeline.size)
    masks = math.prod(pipeline.size) if is_segmentation(plan) else 0
    return len(inventory.cases) * (values * _BYTES_PER_VALUE + masks)


def check_capacity(inventory: Inventory, plan: Plan, capacity: Capacity) -> Check:
    """C16: too little room, a training step that fails, or one that takes too long."""
    needed = cache_bytes(inventory, plan)
    room: Status = (
        "FAIL" if capacity.free_bytes < needed
        else "WARN" if capacity.free_bytes < 2 * needed
        else "PASS"
    )  # fmt: skip
    found = f"{_size(capacity.free_bytes)} free for {_size(needed)} of prepared cases"
    if capacity.problem:
        return CAPACITY.judged("FAIL", f"{found}; one training step failed: {capacity.problem}")
    if capacity.step_s is None:
        return CAPACITY.judged(
            worst([room, "WARN"]),
            f"{found}; no training step was taken: {capacity.not_tried}",
            remedy="Mend what stands in the way, or ask the lead for a plan that this version "
            "trains; then check again."
            if room == "PASS"
            else None,
        )
    time, words = _time(inventory, plan, capacity.step_s)
    memory = f", {_size(capacity.peak_bytes)} of memory" if capacity.peak_bytes else ""
    return CAPACITY.judged(
        worst([room, time]), f"{found}; one step on {capacity.device}{memory}: {words}"
    )


def check_same_data(
    inventory: Inventory,
    plan: Plan,
    *,
    earlier: Earlier | None,
    has_changed_meanwhile: bool = False,
) -> Check:
    """C17: cases came or went since the last check, or files changed during this one.

    Args:
        inventory: What was found now.
        plan: What it is checked against; with another one the comparison begins anew.
        earlier: What the last check saw; None at the first.
        has_changed_meanwhile: Whether a file changed while it was being checked.
    """
    digest = inventory.digest
    if has_changed_meanwhile:
        return SAME_DATA.judged(
            "FAIL",
            "files changed while they were being checked",
            remedy="Wait until the export is complete, then check again.",
        )
    if earlier is None or earlier.plan_digest != plan.digest:
        return SAME_DATA.judged(
            "PASS", f"first check of these data against this plan: digest {digest[:12]}"
        )
    if earlier.digest == digest:
        return SAME_DATA.judged("PASS", f"unchanged since the last check: digest {digest[:12]}")
    now = {content_digest(case) for case in inventory.cases}
    before = set(earlier.contents)
    added, gone = len(now - before), len(before - now)
    return SAME_DATA.judged(
        "WARN",
        f"{plural(added, 'case')} added or changed, {gone:,} gone or changed since the last check: "
        f"digest {digest[:12]}, before {earlier.digest[:12]}",
        tables={"added": {"cases": added}, "gone": {"cases": gone}},
    )


def _time(inventory: Inventory, plan: Plan, step_s: float) -> tuple[Status, str]:
    """Judge the time of an epoch and of a round against the deadline."""
    cases = sum(case.split in (None, "train") for case in inventory.cases)
    steps = max(1, math.ceil(cases / plan.training.batch_size))
    epoch_s, round_s = steps * step_s, plan.training.steps * step_s
    deadline_s = plan.rounds.deadline_s
    status: Status = "WARN" if max(epoch_s * 3, round_s) > deadline_s else "PASS"
    return status, (
        f"{step_s:.3g} s a step of {plan.training.batch_size} cases, so {epoch_s:.3g} s an epoch "
        f"and {round_s:.3g} s a round; the deadline is {deadline_s:g} s"
    )


def _size(count: int) -> str:
    """Return bytes in a unit that a person reads: ``12.3 GiB``."""
    size, units = float(count), ("bytes", "KiB", "MiB", "GiB", "TiB")
    for unit in units[:-1]:
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.4g} {units[-1]}"
