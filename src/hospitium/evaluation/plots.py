"""Where the marks of the report's plots go; ``templates/plots.html`` draws them as inline SVG.

Lengths are in SVG user units (CSS pixels at 100 %). What a plot shows is told apart by dash and
shape as well as by colour (Okabe and Ito 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 680
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 16, 44
CURVE_HEIGHT = 250
ROW_HEIGHT = 38
FOREST_LEFT = 150
MAX_FOREST_ROWS = 30


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve with gaps where a value is missing: a path, and a dot at each value."""

    label: str
    kind: str
    path: str
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class CurvePlot:
    """One figure over the rounds."""

    title: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    chosen: Tick | None
    width: int = WIDTH
    height: int = CURVE_HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = CURVE_HEIGHT - BOTTOM


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """An estimate with its limits, along the x axis; or the words that stand in for it."""

    y: float
    kind: str
    at: float = 0.0
    low: float = 0.0
    high: float = 0.0
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One site: its own model above, the shared model below."""

    label: str
    y: float
    whiskers: Sequence[Whisker]


@dataclass(frozen=True, kw_only=True)
class ForestPlot:
    """One figure per site, for two models, with intervals."""

    title: str
    rows: Sequence[ForestRow]
    x_ticks: Sequence[Tick]
    height: int
    bottom: int
    width: int = WIDTH
    left: int = FOREST_LEFT
    right: int = WIDTH - RIGHT


def curve_plot(
    series: Mapping[str, Sequence[float | None]],
    *,
    rounds: Sequence[int],
    chosen: int | None,
    title: str,
    y_label: str,
) -> CurvePlot | None:
    """Lay out curves over the rounds; ``None`` if there is no value to draw.

    Args:
        series: Values per label, one per round; the first is drawn solid, the second dashed.
        rounds: The rounds, ascending.
        chosen: The round to mark, if it is one of them.
        title: What the plot shows, for those who do not see it too.
        y_label: Name and unit of the y axis.
    """
    values = [v for line in series.values() for v in line if v is not None]
    if not values:
        return None
    low, high, y_steps = _nice(min(values), max(values))
    x = _scale(rounds[0], rounds[-1], start=LEFT, stop=WIDTH - RIGHT)
    y = _scale(low, high, start=CURVE_HEIGHT - BOTTOM, stop=TOP)
    mark = None
    if chosen is not None and chosen in rounds:
        mark = Tick(at=x(chosen), text=f"chosen: {chosen}")
    lines = [
        _line(label, kind, [x(r) for r in rounds], [None if v is None else y(v) for v in line])
        for (label, line), kind in zip(series.items(), ("solid", "dashed"), strict=False)
    ]
    return CurvePlot(
        title=title,
        y_label=y_label,
        x_ticks=[Tick(at=x(r), text=str(r)) for r in _some(rounds)],
        y_ticks=[Tick(at=y(v), text=text) for v, text in y_steps],
        lines=lines,
        chosen=mark,
    )


def _scale(low: float, high: float, *, start: float, stop: float) -> Callable[[float], float]:
    """Return the map of values from ``low`` to ``high`` onto places from ``start`` to ``stop``."""

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(start + share * (stop - start), 1)

    return place


def _line(label: str, kind: str, xs: Sequence[float], ys: Sequence[float | None]) -> Line:
    """Join the points that are there; a missing one leaves a gap."""
    path, dots, pen_is_down = [], [], False
    for x, y in zip(xs, ys, strict=True):
        if y is not None:
            path.append(f"{'L' if pen_is_down else 'M'}{x} {y}")
            dots.append((x, y))
        pen_is_down = y is not None
    return Line(label=label, kind=kind, path=" ".join(path), dots=dots)


def forest_plot(
    rows: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], *, title: str
) -> ForestPlot | None:
    """Lay out one row per site; ``None`` if no row has a value.

    Args:
        rows: Label, figure of the site's own model, figure of the shared model.
        title: What the plot shows.
    """
    known = [m for _, *pair in rows for m in pair if m["estimate"] is not None]
    ends = [m[key] for m in known for key in ("lower", "estimate", "upper") if m[key] is not None]
    if not ends:
        return None
    low, high, steps = _nice(min(ends), max(ends))

    x = _scale(low, high, start=FOREST_LEFT, stop=WIDTH - RIGHT)

    def whisker(metric: Mapping[str, Any], *, kind: str, y: float) -> Whisker:
        if metric["estimate"] is None:
            return Whisker(y=y, kind=kind, missing=f"missing: {metric.get('reason', '')}")
        ends = [metric["estimate"] if metric[k] is None else metric[k] for k in ("lower", "upper")]
        return Whisker(y=y, kind=kind, at=x(metric["estimate"]), low=x(ends[0]), high=x(ends[1]))

    placed = []
    for index, (label, own, shared) in enumerate(rows):
        y = TOP + ROW_HEIGHT * (index + 0.5)
        pair = whisker(own, kind="own", y=y - 7), whisker(shared, kind="shared", y=y + 7)
        placed.append(ForestRow(label=label, y=y, whiskers=pair))
    bottom = TOP + ROW_HEIGHT * len(rows)
    ticks = [Tick(at=x(v), text=text) for v, text in steps]
    return ForestPlot(
        title=title, rows=placed, x_ticks=ticks, height=bottom + BOTTOM, bottom=bottom
    )


def _nice(low: float, high: float) -> tuple[float, float, list[tuple[float, str]]]:
    """Return round limits that hold the values, and round steps between them with their text."""
    span = max(high - low, 0.01)
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 5)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    stop = max(stop, start + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    steps = [(i * step, f"{i * step:.{decimals}f}") for i in range(start, stop + 1)]
    return start * step, stop * step, steps


def _some(rounds: Sequence[int]) -> list[int]:
    """Return about ten of the rounds, those nearest to round numbers, and the last."""
    if len(rounds) <= 11:
        return list(rounds)
    first, last = rounds[0], rounds[-1]
    steps = (times * 10**power for power in range(10) for times in (1, 2, 5))
    step = next(step for step in steps if last - first <= 10 * step)
    wanted = range(first - first % step, last + 1, step)
    near = {min(rounds, key=lambda number: abs(number - mark)) for mark in wanted}
    return [*sorted(number for number in near if last - number > 0.6 * step), last]
