"""Checks of the labels: the right words, enough subjects of each class, and few gaps."""

from __future__ import annotations

from collections import defaultdict

from hospitium.imaging.conformance.case_facts import Inventory
from hospitium.imaging.conformance.check import (
    Check,
    Rule,
    Status,
    by_share,
    percent,
    plural,
    worst,
)
from hospitium.plan import Plan

SCHEMA = Rule(
    name="C05 label schema",
    expected="every label is one of the plan's classes, by name or by number",
    remedy="Map each word that is not known to a class of the plan, once, in the table. Where the "
    "words mean something else, agree on definitions with the lead before anything is trained.",
    who="steward, lead",
)
COUNTS = Rule(
    name="C06 class counts",
    expected="10 subjects or more of every class of the plan",
    remedy="Widen the selection, or join for some of the labels only.",
    who="steward, lead",
)
GAPS = Rule(
    name="C07 labels matched",
    expected="every image has a label and every row of the table an image",
    remedy="Complete the table, or the column that names the images.",
    who="steward",
)
FEW_SUBJECTS = 10


def is_segmentation(plan: Plan) -> bool:
    """Whether the labels of this plan are masks."""
    return plan.task.kind == "segmentation"


def mask_values(plan: Plan) -> dict[int, int]:
    """Return the class index of each value that a mask of this plan may hold.

    The classes name the values from 1 on, or from 0 on where the first is called background.
    """
    classes = plan.task.classes
    first = 0 if classes[0].casefold() in ("background", "backgr.", "0") else 1
    return {first + index: index for index in range(len(classes))}


def check_schema(inventory: Inventory, plan: Plan) -> Check:
    """C05: labels that the plan does not know, or none at all."""
    labels = inventory.labels
    if labels.problem:
        return SCHEMA.judged("FAIL", labels.problem)
    unknown = sum(labels.unknown_words.values())
    foreign = sum(
        case.mask is not None and case.mask.reason == "mask_values" for case in inventory.cases
    )
    words = ", ".join(
        f"{word!r} {count:,} x" for word, count in list(labels.unknown_words.items())[:8]
    )
    whole = max(labels.num_rows, 1)
    status = worst(
        [
            by_share(unknown, whole, warn_above=0.0, fail_above=0.01),
            by_share(foreign, whole, warn_above=0.0, fail_above=0.0),
        ]
    )
    if status == "PASS":
        return SCHEMA.judged(
            status, f"{plural(labels.num_rows, 'label')}, all of the plan's classes"
        )
    found = f"{percent(unknown, whole)} labels are none of {', '.join(plan.task.classes)}"
    found += f": {words}" if words else ""
    found += (
        f"; {plural(foreign, 'mask')} with values that the plan does not name" if foreign else ""
    )
    return SCHEMA.judged(status, found, tables={"unknown": {"labels": unknown, "masks": foreign}})


def check_counts(inventory: Inventory, plan: Plan) -> Check:
    """C06: subjects of each class; the background of a mask is no class to count."""
    subjects: defaultdict[int, set[str]] = defaultdict(set)
    for case in inventory.cases:
        for index in case.classes:
            subjects[index].add(case.subject)
    names = dict(enumerate(plan.task.classes))
    if is_segmentation(plan):
        names = {index: names[index] for value, index in mask_values(plan).items() if value}
    counts = {name: len(subjects[index]) for index, name in names.items()}
    statuses: list[Status] = [
        "FAIL" if count == 0 else "WARN" if count < FEW_SUBJECTS else "PASS"
        for count in counts.values()
    ]
    words = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return COUNTS.judged(
        worst(statuses), f"subjects of each class: {words}", tables={"subjects": counts}
    )


def check_gaps(inventory: Inventory) -> Check:
    """C07: images without a label, and rows without an image."""
    labels = inventory.labels
    cells = {"images without a label": labels.num_unlabelled,
             "rows without an image": labels.num_unmatched}  # fmt: skip
    whole = len(inventory.cases) + labels.num_unmatched
    missing = sum(cells.values())
    status = by_share(missing, whole, warn_above=0.01, fail_above=0.20)
    found = ", ".join(f"{count:,} {what}" for what, count in cells.items())
    return GAPS.judged(
        status,
        f"{found}, of {whole:,}",
        tables={"unmatched": {"both": whole - missing, **cells}},
        examples=[(case, "no label") for case in inventory.cases if not case.classes
                  and case.mask is None],
    )  # fmt: skip
