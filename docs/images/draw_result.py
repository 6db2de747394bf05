"""Draws the picture of the README from the report of a run.

Usage: make demo; .venv/bin/python docs/images/draw_result.py demo-report/report.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 860, 330
SHARED, OTHER, INK, GRID = "#0b6e4f", "#7a869a", "#1f2933", "#d9dee5"
LEFT, RIGHT, TOP, BOTTOM = (58, 380), (560, 830), 58, 270


def draw(report: Mapping[str, Any]) -> str:
    """Return the picture as SVG: the curve of the shared model, and the models side by side."""
    note = (
        f"{len(report['sites'])} simulated hospitals, {report['rounds']} rounds, "
        f"{report['partition']['name']}; joint test set of "
        f"{report['test_sets']['joint']['num_cases']} cases; plan {report['plan_digest'][:12]}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(note)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *_curve(report["curve"]),
        *_models(report["results"]),
        _text(20, HEIGHT - 12, note, size=11, colour=OTHER),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _curve(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the validation AUROC after each round: all sites together, and the worst site."""
    known = [point for point in points if point["auroc"] is not None]
    lowest = min([0.5, *(point["auroc"] for point in known)])
    x = _scale(0, max(1, known[-1]["round"]), *LEFT)
    y = _scale(lowest, 1.0, BOTTOM, TOP)
    worst = [
        (x(point["round"]), y(max(lowest, min(aurocs))))
        for point in known
        if (aurocs := [at["auroc"] for at in point["sites"].values() if at["auroc"] is not None])
    ]
    together = [(x(point["round"]), y(point["auroc"])) for point in known]
    return [
        _text(LEFT[0], 30, "Shared model: validation AUROC by round", size=14),
        *_levels(y, lowest, LEFT),
        *(_text(x(at), BOTTOM + 20, str(at), anchor="middle") for at in (0, known[-1]["round"])),
        _line(worst, OTHER, width=1),
        _line(together, SHARED, width=2.5),
        _text(LEFT[1], BOTTOM - 24, "all sites together", anchor="end", colour=SHARED),
        _text(LEFT[1], BOTTOM - 8, "worst site", anchor="end", colour=OTHER),
    ]


def _models(results: Mapping[str, Any]) -> list[str]:
    """Return one row for each model: its AUROC on the joint test set, with 95 % limits."""
    rows = [
        (f"{site} alone", tables["joint"]["auroc"], OTHER)
        for site, tables in results["local_only"]["per_site"].items()
    ][:6]
    rows.append(("ensemble of these", results["ensemble"]["test"]["auroc"], OTHER))
    if results["pooled"]:
        rows.append(("all data in one place", results["pooled"]["test"]["auroc"], INK))
    rows.append(("shared model", results["federated"]["test"]["auroc"], SHARED))
    rows = [row for row in rows if row[1]["estimate"] is not None]
    limits = [end for _, auroc, _ in rows for end in (auroc["lower"], auroc["estimate"]) if end]
    lowest = int(min(limits) * 20) / 20
    x = _scale(lowest, 1.0, *RIGHT)
    step = (BOTTOM - TOP) / len(rows)
    parts = [_text(420, 30, "AUROC on the joint test set, with 95 % limits", size=14)]
    for level in (lowest, (lowest + 1) / 2, 1.0):
        parts.append(_line([(x(level), TOP - 8), (x(level), BOTTOM)], GRID, width=1))
        parts.append(_text(x(level), BOTTOM + 20, f"{level:.3g}", anchor="middle"))
    for number, (name, auroc, colour) in enumerate(rows):
        y = TOP + (number + 0.5) * step
        if auroc["lower"] is not None:
            ends = [(x(auroc["lower"]), y), (x(auroc["upper"]), y)]
            parts.append(_line(ends, colour, width=2))
        parts.append(
            f'<circle cx="{x(auroc["estimate"]):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
        )
        parts.append(_text(RIGHT[0] - 16, y + 4, name, anchor="end", colour=colour))
    return parts


def _levels(y: Callable[[float], float], lowest: float, across: tuple[int, int]) -> list[str]:
    parts = []
    for level in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        if level >= lowest:
            parts.append(_line([(across[0], y(level)), (across[1], y(level))], GRID, width=1))
            parts.append(_text(across[0] - 8, y(level) + 4, f"{level:.1f}", anchor="end"))
    return parts


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _line(points: Sequence[tuple[float, float]], colour: str, *, width: float) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def main(path: str) -> None:
    """Draw the report in this file beside this script."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    target = Path(__file__).parent / "result.svg"
    target.write_text(draw(report), encoding="utf-8", newline="\n")
    print(f"{target.name} was drawn.")


if __name__ == "__main__":
    main(sys.argv[1])
