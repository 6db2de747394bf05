"""Checks of the files: are they all there, may they be opened, can they be read?"""

from __future__ import annotations

from collections.abc import Sequence

from hospitium.imaging.conformance.case_facts import Inventory
from hospitium.imaging.conformance.check import Check, Rule, by_share, percent, plural, worst
from hospitium.imaging.instance import SKIP_REASONS

READER = Rule(
    name="C01 reader fingerprint",
    expected="every synthetic file gives the numbers that it gives at all other sites",
    remedy="Install the named version of Hospitium and its decoders again, and send the file's "
    "name to the developers. This site must not train until then.",
    who="engineer",
)
SOURCE = Rule(
    name="C02 source",
    expected="the source answers, and at most 1 % of its studies are empty or incomplete",
    remedy="Ask the PACS team why these studies came without images, then import them again.",
    who="engineer",
)
READ = Rule(
    name="C03 files read",
    expected="at least 99 % of what the plan selects is read, and some cases are",
    remedy="Open the list by reason below. Map, convert or exclude by rule, not case by case.",
    who="steward",
)
ACCESS = Rule(
    name="C04 file permissions",
    expected="every file may be opened by the account that runs Hospitium",
    remedy="Give the service account the right to read these files. Do not remove the cases: "
    "missing rights look like bad data and are not.",
    who="engineer",
)
BY_RULE = frozenset({"not_selected", "label_object", "no_pixels"})
"""Left out by the plan's own selection, or never an image: not a failure to read."""

_ACCEPT = (
    " If screenshots and digitised film are wanted here, ask the study lead for a plan with "
    '`imaging.secondary_capture = "accept"`.'
)
_INCOMPLETE = ("empty_study", "missing_slice")
_LABELS = frozenset({"no_label", "bad_row", "unknown_split", "label_conflict", "missing_file"})
_MASKS = frozenset({"mask_geometry", "mask_values", "mask_missing", "mask_empty"})


def check_reader(differences: Sequence[str]) -> Check:
    """C01: the reader gives other numbers than it does elsewhere.

    Args:
        differences: One sentence for each synthetic file that reads differently here.
    """
    if not differences:
        return READER.judged("PASS", "no synthetic file reads differently here")
    listed = "; ".join(differences[:5])
    return READER.judged("FAIL", f"{plural(len(differences), 'file')} read differently: {listed}")


def check_source(inventory: Inventory, *, problem: str = "") -> Check:
    """C02: the source does not answer, or its studies are not whole.

    Args:
        inventory: What was found.
        problem: Why the source could not be reached; empty where it was.
    """
    if problem:
        return SOURCE.judged(
            "FAIL",
            problem,
            remedy="Check the path or address in the site's settings, and that the account may "
            "reach it.",
        )
    counts = {reason: inventory.skipped.get(reason, 0) for reason in _INCOMPLETE}
    found, whole = sum(counts.values()), len(inventory.cases) + sum(counts.values())
    status = by_share(found, whole, warn_above=0.01)
    words = f"{percent(found, whole)} studies are empty or incomplete"
    return SOURCE.judged(status, words, tables={"incomplete": counts})


def check_read(inventory: Inventory) -> Check:
    """C03: too much was skipped, or nothing is left. What the plan excludes by rule is listed
    with its count, but is no failure to read.
    """
    images = {
        reason: count
        for reason, count in sorted(inventory.skipped.items())
        if reason not in _LABELS | _MASKS
    }
    failed = sum(count for reason, count in images.items() if reason not in BY_RULE)
    whole = failed + len(inventory.cases)
    listed = "".join(
        f"; {count:,} {reason} ({SKIP_REASONS[reason]})" for reason, count in images.items()
    )
    is_empty = not inventory.cases
    status = worst(
        [by_share(failed, whole, warn_above=0.01, fail_above=0.20), "FAIL" if is_empty else "PASS"]
    )
    tables = {"cases": {"read": len(inventory.cases), **images}}
    remedy = READ.remedy + (_ACCEPT if "secondary_capture" in images else "")
    words = f"{percent(failed, whole)} skipped{listed}"
    return READ.judged(status, words, tables=tables, remedy=remedy)


def check_access(inventory: Inventory) -> Check:
    """C04: files that could not be opened."""
    closed = inventory.skipped.get("unreadable_file", 0)
    whole = len(inventory.cases) + sum(
        count for reason, count in inventory.skipped.items() if reason not in BY_RULE | _LABELS
    )
    status = by_share(closed, whole, warn_above=0.0, fail_above=0.01)
    return ACCESS.judged(
        status, f"{percent(closed, whole)} files may not be opened", tables={"closed": {"": closed}}
    )
