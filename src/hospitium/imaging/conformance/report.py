"""All checks over one inventory -> a report: for the site's staff, and what of it may leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hospitium.imaging.conformance.case_facts import Inventory
from hospitium.imaging.conformance.check import Check, Status, as_json, leaving, worst
from hospitium.imaging.conformance.checks_copies import check_duplicates, check_leakage
from hospitium.imaging.conformance.checks_files import (
    check_access,
    check_read,
    check_reader,
    check_source,
)
from hospitium.imaging.conformance.checks_labels import check_counts, check_gaps, check_schema
from hospitium.imaging.conformance.checks_site import (
    Capacity,
    Earlier,
    check_capacity,
    check_same_data,
)
from hospitium.imaging.conformance.checks_space import check_grid, check_masks, check_orientation
from hospitium.imaging.conformance.checks_values import (
    check_burned_in,
    check_intensity,
    check_kinds,
    check_polarity,
)
from hospitium.imaging.conformance.copies import find_copies
from hospitium.imaging.conformance.histograms import Histogram, histograms_of
from hospitium.imaging.suppression import Suppression
from hospitium.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What cannot be seen in the images: the reader, the source, the machine, the last check.

    Attributes:
        reader_differences: A sentence for each synthetic file that reads differently here.
        source_problem: Why the source could not be reached; empty where it was.
        capacity: What the machine can do.
        earlier: What the last check saw; None at the first.
        has_changed_meanwhile: Whether a file changed while it was being checked.
    """

    capacity: Capacity
    reader_differences: Sequence[str] = ()
    source_problem: str = ""
    earlier: Earlier | None = None
    has_changed_meanwhile: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """The conformance report of one site; it stays there, but for `leaves`.

    Attributes:
        data: What the site calls its data set.
        plan_name: Of the plan that it was checked against.
        plan_digest: The same.
        checks: One line each, in the order of their codes.
        inventory: What was found.
        histograms: For the eye.
    """

    data: str
    plan_name: str
    plan_digest: str
    checks: tuple[Check, ...]
    inventory: Inventory
    histograms: tuple[Histogram, ...]

    @property
    def status(self) -> Status:
        """The worst status of all checks."""
        return worst([check.status for check in self.checks])

    @property
    def counts(self) -> dict[str, int]:
        """How many checks have each status."""
        found = Counter(check.status for check in self.checks)
        return {status: found[status] for status in ("PASS", "WARN", "FAIL")}

    @property
    def num_train(self) -> int:
        """How many labelled cases would be trained on, as the splits are given or planned."""
        return sum(
            case.split == "train" and bool(case.classes or case.mask is not None)
            for case in self.inventory.cases
        )

    def leaves(self, suppression: Suppression) -> dict[str, Any]:
        """Return all that may leave the site, once a person has approved exactly this.

        Names of checks, their status, and suppressed counts; no word from a file, a table or a
        header.
        """
        return {
            "plan_digest": self.plan_digest,
            "status": self.status,
            "least_count": suppression.least,
            "checks": [leaving(check, suppression) for check in self.checks],
        }

    def as_json(self, suppression: Suppression) -> dict[str, Any]:
        """Return the report as plain values, with true counts; it stays at the site."""
        return {
            "data": self.data,
            "plan": {"name": self.plan_name, "digest": self.plan_digest},
            "status": self.status,
            "counts": self.counts,
            "num_cases": len(self.inventory.cases),
            "num_train": self.num_train,
            "digest": self.inventory.digest,
            "checks": [as_json(check) for check in self.checks],
            "skipped": dict(self.inventory.skipped),
            "notes": dict(self.inventory.notes.most_common()),
            "histograms": {histogram.title: dict(histogram.bars) for histogram in self.histograms},
            "leaves": self.leaves(suppression),
        }


def run_checks(
    inventory: Inventory, plan: Plan, surroundings: Surroundings, *, data: str = ""
) -> Report:
    """Run every check; each looks at the same facts, and none stops another.

    Args:
        inventory: What was found.
        plan: What it is checked against.
        surroundings: What cannot be seen in the images.
        data: What the site calls its data set.
    """
    copies = find_copies(inventory.cases)
    checks = [
        check_reader(surroundings.reader_differences),
        check_source(inventory, problem=surroundings.source_problem),
        check_read(inventory),
        check_access(inventory),
        check_schema(inventory, plan),
        check_counts(inventory, plan),
        check_gaps(inventory),
        check_duplicates(inventory, copies),
        check_leakage(inventory, copies),
        check_grid(inventory, plan),
        check_orientation(inventory),
        check_polarity(inventory),
        check_kinds(inventory),
        check_burned_in(inventory),
        check_masks(inventory, plan),
        check_capacity(inventory, plan, surroundings.capacity),
        check_same_data(
            inventory,
            plan,
            earlier=surroundings.earlier,
            has_changed_meanwhile=surroundings.has_changed_meanwhile,
        ),
        check_intensity(inventory, plan),
    ]
    return Report(
        data=data,
        plan_name=plan.name,
        plan_digest=plan.digest,
        checks=tuple(checks),
        inventory=inventory,
        histograms=tuple(histograms_of(inventory.cases)),
    )
