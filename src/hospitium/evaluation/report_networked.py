"""The report of a run between machines: validation from sums, participation, costs of each site.

It has no test figures and no baselines: the coordinator has no case. ``report.json`` holds what
`hospitium.operations.networked_report` puts there; ``report.html`` shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hospitium.evaluation.report import (
    curve_plots,
    curve_rows,
    environment,
    participation_of,
    write_pages,
)

SCHEMA_VERSION = 1

STEPS = ("join", "approve", "refuse", "withdraw")
"""What is counted as a step of a site's staff."""


def write_networked_report(folder: Path, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into a folder; return their paths.

    Raises:
        StorageError: The disk refused. Whatever report was there before is still whole.
    """
    return write_pages(folder, report, page=render(report))


def render(report: Mapping[str, Any]) -> str:
    """Return the page; everything that comes from the report is escaped."""
    return (
        environment()
        .get_template("report_networked.html")
        .render(
            report=report,
            summary=summary(report),
            curve=curve_rows(report),
            curve_plots=curve_plots(report),
            participation=participation_of(report),
            auroc="AUROC" if len(report["classes"]) == 2 else "macro AUROC",
            steps=STEPS,
        )
    )


def summary(report: Mapping[str, Any]) -> str:
    """Return what was learnt, in a sentence or two."""
    figures, sites = report["validation"]["pooled"], len(report["sites"])
    trained = f"{sites} sites trained one model together over {report['rounds']} rounds"
    if figures["auroc"] is None:
        return f"{trained}. How good it is cannot be said: {figures['reason']}."
    kind = "an AUROC" if len(report["classes"]) == 2 else "a macro AUROC"
    limits = (
        f" [{figures['lower']:.3f}, {figures['upper']:.3f}]" if figures["lower"] is not None else ""
    )
    return (
        f"{trained}; it has {kind} of {figures['auroc']:.3f}{limits} on the {figures['n']} "
        "validation cases of all sites. The threshold was chosen by the same cases, and the model "
        "may have been: on cases of other patients it may do a little worse."
    )
