"""One line of the conformance report: what was looked at, what was found, what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from hospitium.imaging.conformance.case_facts import CaseFacts
from hospitium.imaging.suppression import Suppression

Status: TypeAlias = Literal["PASS", "WARN", "FAIL"]
_ORDER: tuple[Status, ...] = ("PASS", "WARN", "FAIL")
MAX_EXAMPLES = 12


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check found. All but ``name``, ``status`` and what `leaving` makes of the counts
    stays at the site.

    Attributes:
        name: ``C08 duplicates``: a stable code and a few words.
        found: A sentence with true counts, for the site's own staff.
        expected: What passes.
        remedy: What to do; empty where it passed.
        who: Who can do it.
        tables: Counts that may leave once they are suppressed, by name and cell.
        examples: Cases to look at, each with what is the matter with it.
    """

    name: str
    status: Status
    found: str
    expected: str
    remedy: str = ""
    who: str = ""
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    examples: tuple[tuple[CaseFacts, str], ...] = ()

    @property
    def code(self) -> str:
        """The stable part of the name: ``C08``."""
        return self.name.split(" ", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is always the same about a check."""

    name: str
    expected: str
    remedy: str
    who: str

    def judged(
        self,
        status: Status,
        found: str,
        *,
        tables: Mapping[str, Mapping[str, int]] | None = None,
        examples: Sequence[tuple[CaseFacts, str]] = (),
        remedy: str | None = None,
    ) -> Check:
        """Return the line for what was found; a check that passed needs no remedy."""
        has_passed = status == "PASS"
        return Check(
            name=self.name,
            status=status,
            found=found,
            expected=self.expected,
            remedy="" if has_passed else remedy or self.remedy,
            who="" if has_passed else self.who,
            tables=tables or {},
            examples=tuple(examples[:MAX_EXAMPLES]),
        )


def worst(statuses: Sequence[Status]) -> Status:
    """Return the worst of several statuses; PASS of none."""
    return max(statuses, key=_ORDER.index, default="PASS")


def by_share(part: int, whole: int, *, warn_above: float, fail_above: float = 1.0) -> Status:
    """Return FAIL or WARN for a share above these; PASS for nothing of nothing."""
    share = part / whole if whole else 0.0
    return "FAIL" if share > fail_above else "WARN" if share > warn_above else "PASS"


def percent(part: int, whole: int) -> str:
    """Return ``12 of 300 (4.0 %)``, for the site's own eyes."""
    share = f" ({100 * part / whole:.1f} %)" if whole else ""
    return f"{part:,} of {whole:,}{share}"


def plural(count: int, word: str) -> str:
    """Return ``1 case`` or ``3 cases``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def as_json(check: Check) -> dict[str, str]:
    """Return a line as the site's own staff see it, with true counts."""
    return {
        "name": check.name,
        "status": check.status,
        "found": check.found,
        "expected": check.expected,
        "remedy": check.remedy,
        "who": check.who,
    }


def leaving(check: Check, suppression: Suppression) -> dict[str, Any]:
    """Return all of a line that may leave the site, once a person has approved exactly this.

    Counts are rounded, for the lines of a report count the same cases in several ways.
    """
    tables: dict[str, Any] = {}
    for name, cells in check.tables.items():
        shown, total = suppression.table(cells)
        tables[name] = {
            "cells": {cell: suppression.rounded(count) for cell, count in shown.items()},
            "total": suppression.rounded(total),
        }
    return {"name": check.name, "status": check.status, "counts": tables}
