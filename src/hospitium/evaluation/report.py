"""Writes the report of a run: ``report.json`` for programs, ``report.html`` for people.

The page is one file without script or outside parts: it can be mailed, printed and archived.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hospitium.errors import StorageError
from hospitium.evaluation import report_words as words
from hospitium.evaluation.plots import MAX_FOREST_ROWS, CurvePlot, curve_plot, forest_plot

MODELS = (
    ("local_only", "Each site alone (mean over sites)"),
    ("ensemble", "Ensemble of the sites' own models (round 0)"),
    ("federated", "Federated: the shared model"),
    ("pooled", "Pooled: all data in one place"),
)
"""The rows of the table of models, in the order in which they are read."""


def write_report(folder: Path, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into a folder, each all at once or not at all.

    Args:
        folder: Made if it is not there; reports in it are replaced.
        report: A `hospitium.evaluation.report_shape.Report`.

    Returns:
        The paths of the two files.

    Raises:
        StorageError: The disk refused. Whatever report was there before is still whole.
    """
    return write_pages(folder, report, page=render_html(report))


def write_pages(folder: Path, report: Mapping[str, Any], *, page: str) -> tuple[Path, Path]:
    """Write a report of any kind and its page; see `write_report`."""
    contents = {
        "report.json": json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "report.html": page,
    }
    for name, text in contents.items():
        try:
            _replace(folder / name, text)
        except OSError as error:
            raise StorageError(
                f"Report: {folder / name} cannot be written ({error.strerror or error}). The run "
                "itself is safe in its ledger. Make room or choose another folder, then write the "
                "report again."
            ) from error
    return folder / "report.json", folder / "report.html"


def _replace(path: Path, text: str) -> None:
    """Put a text file in place by renaming a finished one over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def render_html(report: Mapping[str, Any]) -> str:
    """Return the page; everything that comes from the report is escaped."""
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            summary=words.summary_sentence(report),
            below_own=words.sites_below_own(report),
            few_positives=words.FEW_POSITIVES,
            auroc=_kind(report),
            models=MODELS,
            curve=curve_rows(report),
            curve_plots=curve_plots(report),
            forests=_forests(report),
            participation=participation_of(report),
            total_bytes=_total_bytes(report),
        )
    )


@cache
def environment() -> Environment:
    """Return what pages are rendered with: everything is escaped, and nothing may be missing."""
    made = Environment(
        loader=PackageLoader("hospitium.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "figure": _figure,
        "size": words.size,
        "duration": words.duration,
        "moment": words.moment,
        "signed": words.signed,
        "counts": _counts,
    }
    return made


def _figure(metric: Mapping[str, Any] | None, *, is_difference: bool = False) -> str:
    """Return a figure whose limits stay on one line."""
    text = words.figure(metric, is_difference=is_difference)
    return text.replace(", ", ",\N{NO-BREAK SPACE}", 1)


def _counts(values: Mapping[str, Any] | None) -> str:
    """Return named numbers as words: ``normal 40, pneumonia 60``."""
    if not values:
        return "none"
    shown = (
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
    return ", ".join(shown)


def curve_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points of the curve, each with its worst site."""
    rows = []
    for point in report.get("curve", ()):
        known = {
            site: at for site, at in point.get("sites", {}).items() if at.get("auroc") is not None
        }
        worst = min(known, key=lambda site: (known[site]["auroc"], site)) if known else None
        rows.append({**point, "worst": worst, "worst_at": known[worst] if worst else None})
    return rows


def _kind(report: Mapping[str, Any]) -> str:
    return "AUROC" if len(report["classes"]) == 2 else "macro AUROC"


def curve_plots(report: Mapping[str, Any]) -> list[CurvePlot]:
    """Return the plots of the curve that have anything to show."""
    rows = curve_rows(report)
    rounds = [row["round"] for row in rows]
    chosen = report.get("chosen_round", {}).get("round")
    worst = [row["worst_at"]["auroc"] if row["worst_at"] else None for row in rows]
    aurocs = {"all sites together": [row["auroc"] for row in rows], "worst site": worst}
    losses = {"all sites together": [row["loss"] for row in rows]}
    kind = _kind(report)
    plots = [
        curve_plot(series, rounds=rounds, chosen=chosen, title=title, y_label=label)
        for series, title, label in (
            (aurocs, f"Validation {kind} of the shared model after each round", kind),
            (losses, "Validation loss of the shared model after each round", "loss (nats)"),
        )
    ]
    return [plot for plot in plots if plot]


def _forests(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plots per site, of the sites with the least gain if there are many."""
    own_models = report["results"]["local_only"]["per_site"]
    shared = report["results"]["federated"]["per_site"]
    gains = {site: gain["own"]["estimate"] for site, gain in report["gain_over_own_model"].items()}

    def by_gain(site: str) -> tuple[bool, float]:
        gain = gains.get(site)
        return gain is None, gain or 0.0

    sites = sorted(shared)
    if len(sites) > MAX_FOREST_ROWS:
        sites = sorted(sorted(sites, key=by_gain)[:MAX_FOREST_ROWS])
    kind = _kind(report)
    titles = {
        "own": f"{kind} on each site's own test cases",
        "joint": f"{kind} on the joint test set",
    }
    plots = [
        forest_plot(
            [(s, own_models[s][where]["auroc"], shared[s][where]["auroc"]) for s in sites],
            title=title,
        )
        for where, title in titles.items()
    ]
    return {"plots": [plot for plot in plots if plot], "drawn": len(sites), "of": len(shared)}


def _size_of(group: Sequence[str] | int) -> int:
    return group if isinstance(group, int) else len(group)


def participation_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rounds in which someone was left out, and how many went without."""
    rows = [
        {**row, "num_asked": _size_of(row["asked"]), "num_answered": _size_of(row["answered"])}
        for row in report["participation"]
    ]
    troubled = [row for row in rows if row["left_out"] or row["num_answered"] < row["num_asked"]]
    return {"all": len(rows), "smooth": len(rows) - len(troubled), "troubled": troubled}


def _total_bytes(report: Mapping[str, Any]) -> int:
    """Return what all sites together moved over the run: a task down, an update up."""
    down = report["traffic"]["bytes_down_per_site_per_round"] or 0
    up = report["traffic"]["bytes_up_per_site_per_round"] or 0
    rows = report["participation"]
    return sum(down * _size_of(r["asked"]) + up * _size_of(r["answered"]) for r in rows)
