"""The report as one page: no script, no outside parts, thumbnails inside; it stays at the site."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hospitium.imaging.conformance.pictures import as_data_uri
from hospitium.imaging.conformance.report import Report
from hospitium.imaging.instance import NOTES, SKIP_REASONS
from hospitium.imaging.suppression import Suppression

_SENTENCES = {
    "PASS": "Nothing stands in the way of training on these data.",
    "WARN": "These data can be trained on. What is marked WARN should be looked at first.",
    "FAIL": "These data must not be trained on until what is marked FAIL is mended.",
}


def render_page(report: Report, *, suppression: Suppression, version: str = "") -> str:
    """Return the page as HTML; everything that comes from the data is escaped.

    Args:
        report: What was found; thumbnails of its examples are drawn.
        suppression: How counts are shown in the part that may leave.
        version: Of Hospitium, for the foot of the page.
    """
    environment = Environment(
        loader=PackageLoader("hospitium.imaging.conformance", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent_of": _percent_of}
    leaves = report.leaves(suppression)
    return environment.get_template("conformance.html").render(
        report=report,
        sentence=_SENTENCES[report.status],
        galleries=_galleries(report),
        skipped=[(reason, count, SKIP_REASONS.get(reason, ""))
                 for reason, count in report.inventory.skipped.items()],
        notes=[(note, count, NOTES.get(note, ""))
               for note, count in report.inventory.notes.most_common()],
        leaves=json.dumps(leaves, indent=2, ensure_ascii=False),
        version=version,
    )  # fmt: skip


def _galleries(report: Report) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the examples of each check that did not pass, with their pictures."""
    return [
        (
            check.name,
            [
                {
                    "name": case.name,
                    "why": why,
                    "picture": as_data_uri(case.thumbnail) if case.thumbnail else "",
                }
                for case, why in check.examples
            ],
        )
        for check in report.checks
        if check.status != "PASS" and check.examples
    ]


def _percent_of(count: int, whole: int) -> str:
    """Return the width of a bar in CSS."""
    return f"{100 * count / whole:.1f}%"
