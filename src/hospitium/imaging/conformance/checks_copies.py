"""Checks for copies: the same image twice, and anything that stands in two splits."""

from __future__ import annotations

from collections import defaultdict

from hospitium.imaging.cases import SPLITS
from hospitium.imaging.conformance.case_facts import CaseFacts, Inventory
from hospitium.imaging.conformance.check import Check, Rule, Status, by_share, plural, worst
from hospitium.imaging.conformance.copies import Copies, across_splits

DUPLICATES = Rule(
    name="C08 duplicates",
    expected="every image once, and none that nearly equals another",
    remedy="Keep one of each, and look at how the export came to write the others.",
    who="steward",
)
LEAKAGE = Rule(
    name="C09 leakage across splits",
    expected="no subject and no image in two of train, val and test",
    remedy="Leave the split column out, so that Hospitium splits by subject and keeps copies "
    "together; or join the subjects that are one person.",
    who="steward",
)
_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (one, other) for at, one in enumerate(SPLITS) for other in SPLITS[at + 1 :]
)


def check_duplicates(inventory: Inventory, copies: Copies) -> Check:
    """C08: surplus copies within each split, and near duplicates anywhere.

    Copies in two splits are counted by C09.
    """
    surplus: dict[str, int] = dict.fromkeys(SPLITS, 0)
    surplus["no split"] = 0
    for group in copies.exact:
        within: defaultdict[str, int] = defaultdict(int)
        for case in group:
            within[case.split or "no split"] += 1
        for split, count in within.items():
            surplus[split] += count - 1
    total, whole = sum(surplus.values()), len(inventory.cases)
    listed = ", ".join(f"{count:,} in {split}" for split, count in surplus.items() if count)
    status = worst(
        [
            by_share(total, whole, warn_above=0.0, fail_above=0.05),
            "WARN" if copies.near else "PASS",
        ]
    )
    found = f"{total:,} surplus exact {'copy' if total == 1 else 'copies'}"
    found += f" ({listed})" if listed else ""
    found += f"; {plural(len(copies.near), 'pair')} of near duplicates"
    others = copies.num_alike_by_hash - len(copies.near)
    if others:
        found += f" ({plural(others, 'more pair')} only in outline)"
    return DUPLICATES.judged(
        status,
        found,
        tables={"surplus": surplus, "near": {"pairs": len(copies.near)}},
        examples=_examples(copies),
    )


def check_leakage(inventory: Inventory, copies: Copies) -> Check:
    """C09: subjects, exact images or near duplicates in two splits."""
    images, near = dict.fromkeys(_PAIRS, 0), dict.fromkeys(_PAIRS, 0)
    for group in copies.exact:
        _count(images, across_splits(group))
    for pair in copies.near:
        _count(near, across_splits(pair))
    subjects = dict.fromkeys(_PAIRS, 0)
    for splits in _splits_of_subjects(inventory).values():
        _count(subjects, splits)
    is_leaking = any(images.values()) or any(subjects.values())
    status: Status = "FAIL" if is_leaking else "WARN" if any(near.values()) else "PASS"
    whose = "" if inventory.labels.has_splits else " (Hospitium splits these data by subject)"
    return LEAKAGE.judged(
        status,
        f"{_listed('image', images)}; {_listed('subject', subjects)}; "
        f"{_listed('near duplicate', near)}{whose}",
        tables={"images": _named(images), "subjects": _named(subjects), "near": _named(near)},
        examples=[
            (case, f"also in {' and '.join(s for s in across_splits(group) if s != case.split)}")
            for group in (*copies.exact, *copies.near)
            if len(across_splits(group)) > 1
            for case in group
        ],
    )


def _splits_of_subjects(inventory: Inventory) -> dict[str, tuple[str, ...]]:
    groups: defaultdict[str, list[CaseFacts]] = defaultdict(list)
    for case in inventory.cases:
        groups[case.subject].append(case)
    return {subject: across_splits(group) for subject, group in groups.items()}


def _count(counts: dict[tuple[str, str], int], splits: tuple[str, ...]) -> None:
    for one, other in counts:
        counts[one, other] += one in splits and other in splits


def _listed(what: str, counts: dict[tuple[str, str], int]) -> str:
    """Return ``8 images in both train and val, none in train and test``."""
    parts = [
        f"{plural(count, what) if count else 'no ' + what} in both {one} and {other}"
        for (one, other), count in counts.items()
    ]
    if not any(counts.values()):
        return f"no {what} in two splits"
    return ", ".join(parts)


def _named(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    return {f"{one} and {other}": count for (one, other), count in counts.items()}


def _examples(copies: Copies) -> list[tuple[CaseFacts, str]]:
    """Return the copies to look at: each group's members side by side."""
    found = [
        (case, f"copy {number} of {len(group)}")
        for group in copies.exact[:4]
        for number, case in enumerate(group[:3], start=1)
    ]
    return found + [(case, "near duplicate") for pair in copies.near[:4] for case in pair]
