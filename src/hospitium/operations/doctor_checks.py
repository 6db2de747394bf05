"""One check of ``hospitium doctor``: what was looked at, what was found, what to do, who acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL", "SKIP"]
"""``SKIP``: not looked at, because of an earlier check, or because nobody asked for it."""

ENGINEER = "engineer"
APPROVER = "approver"
HOSPITAL_IT = "hospital IT"
CENTRE = "coordinating centre"
OPERATOR = "operator"
PACS_TEAM = "PACS team"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report; ``remedy`` and ``who`` are empty where nothing has to be done."""

    name: str
    status: Status
    found: str
    remedy: str = ""
    who: str = ""


def passed(name: str, found: str) -> Check:
    """Return a check with which all is well."""
    return Check(name=name, status="PASS", found=found)


def warned(name: str, found: str, *, remedy: str, who: str) -> Check:
    """Return a check with something that works now and deserves a look."""
    return Check(name=name, status="WARN", found=found, remedy=remedy, who=who)


def failed(name: str, found: str, *, remedy: str, who: str) -> Check:
    """Return a check that stops work until somebody acts."""
    return Check(name=name, status="FAIL", found=found, remedy=remedy, who=who)


def skipped(name: str, why: str) -> Check:
    """Return a check that was not made."""
    return Check(name=name, status="SKIP", found=f"not looked at: {why}")


def completed(checks: Iterable[Check], names: Sequence[str]) -> list[Check]:
    """Return the checks with those that are missing, each saying which one stopped it."""
    made = list(checks)
    stopped_by = next((check.name for check in made if check.status == "FAIL"), "")
    why = f"{stopped_by} failed" if stopped_by else "nothing to look at"
    known = {check.name for check in made}
    return [*made, *(skipped(name, why) for name in names if name not in known)]
