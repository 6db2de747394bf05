"""Histograms of the report: what made the images, how they are spaced, how bright they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hospitium.imaging.conformance.case_facts import CaseFacts
from hospitium.imaging.conformance.checks_values import kinds_of

_BINS = 12
_MOST_KINDS = 10


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of cases; it stays at the site.

    Attributes:
        title: What is counted, with its unit.
        bars: Label and count, in the order in which they are read.
    """

    title: str
    bars: tuple[tuple[str, int], ...]

    @property
    def highest(self) -> int:
        """The largest count; 1 at least, so that it may divide."""
        return max((count for _, count in self.bars), default=1) or 1


def histograms_of(cases: Sequence[CaseFacts]) -> list[Histogram]:
    """Return the histograms that have anything to show."""
    kinds = [
        Histogram(title=f"{what}, cases", bars=tuple(list(mix.items())[:_MOST_KINDS]))
        for what, mix in kinds_of(cases).items()
    ]
    spacings = [case.spacing_mm for case in cases if case.spacing_mm]
    axes = max((len(spacing) for spacing in spacings), default=0)
    names = ("rows", "columns") if axes == 2 else ("i", "j", "k")
    return [
        *(histogram for histogram in kinds if len(histogram.bars) > 1),
        *(
            logarithmic(
                [spacing[axis] for spacing in spacings if axis < len(spacing)],
                title=f"spacing along {name}, mm",
            )
            for axis, name in zip(range(axes), names, strict=False)
        ),
        logarithmic(
            [case.levels.spread for case in cases],
            title="range of intensities as stored (1st to 99th percentile)",
        ),
        logarithmic(
            [case.harmonised.spread for case in cases],
            title="range of intensities after the plan's intensity step",
        ),
    ]


def logarithmic(values: Sequence[float], *, title: str) -> Histogram:
    """Count positive values in bins of equal ratio; zeros and less are a bar of their own."""
    positive = [value for value in values if value > 0]
    bars: list[tuple[str, int]] = []
    if len(positive) < len(values):
        bars.append(("0", len(values) - len(positive)))
    if not positive:
        return Histogram(title=title, bars=tuple(bars))
    low, high = math.log(min(positive)), math.log(max(positive))
    if high - low < 1e-6:
        return Histogram(title=title, bars=(*bars, (f"{min(positive):.4g}", len(positive))))
    width, counts = (high - low) / _BINS, [0] * _BINS
    for value in positive:
        counts[min(_BINS - 1, int((math.log(value) - low) / width))] += 1
    edges = [math.exp(low + number * width) for number in range(_BINS + 1)]
    bars += [
        (f"{_short(edges[number])} to {_short(edges[number + 1])}", count)
        for number, count in enumerate(counts)
    ]
    return Histogram(title=title, bars=tuple(bars))


def _short(value: float) -> str:
    """Return a number without a power of ten: ``0.216``, ``459,159``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
