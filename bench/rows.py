"""One measured figure beside its floor, and how times are taken on a machine that others use."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of ``make bench``.

    Attributes:
        name: What was measured; fixed, so that figures of two versions can be compared.
        value: The figure, in ``unit``.
        floor: The least it could be, or what a peer needs: measured in the same run, same unit.
        target: The bar for ``ratio = value / floor``; None where there is none.
        better: In which direction a figure is better.
    """

    name: str
    value: float
    unit: str
    floor: float
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"

    @property
    def ratio(self) -> float:
        """The figure in units of its floor."""
        return self.value / self.floor

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.ratio <= self.target if self.better == "lower" else self.ratio >= self.target

    def as_json(self) -> str:
        """Return the row as one line."""
        fields = {**asdict(self), "ratio": self.ratio}
        order = ("name", "value", "unit", "floor", "ratio", "target", "better")
        rounded = {
            key: float(f"{fields[key]:.4g}") if isinstance(fields[key], float) else fields[key]
            for key in order
        }
        return json.dumps(rounded)

    def as_text(self) -> str:
        """Return the row in words, for people who watch."""
        verdict = {None: "", True: ", met", False: ", NOT MET"}[self.is_met]
        bar = "" if self.target is None else f" (target {self.target:.3g}{verdict})"
        return (
            f"{self.name}: {self.value:.4g} {self.unit}, "
            f"{self.ratio:.2f} x the floor of {self.floor:.4g}{bar}"
        )


def say(text: str) -> None:
    """Tell people who watch what is going on; standard output is for rows only."""
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    """Return what the figures were taken on: cores, load, and how fast one core hashes.

    Without SHA instructions it is a fifth as fast, and a round between machines twice as long.
    """
    piece = bytes(1 << 24)
    (took_s,) = best_of(5, lambda: hashlib.sha256(piece))
    return f"{os.cpu_count()} cores, load {load()}, SHA-256 {len(piece) / took_s / 1e9:.2f} GB/s"


def load() -> str:
    """Return how busy the machine was in the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def best_of(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Return the shortest time of each work in seconds, taken in turns.

    Others' load only ever adds to a time, and hits all works alike when they take turns.
    """
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for index, work in enumerate(works):
            started = time.perf_counter()
            work()
            best[index] = min(best[index], time.perf_counter() - started)
    return best


def union_s(intervals: Sequence[tuple[float, float]], *, begin: float, end: float) -> float:
    """Return for how long, between two times, at least one of these intervals was going on."""
    covered, reached = 0.0, begin
    for start, stop in sorted(intervals):
        start, stop = max(start, reached), min(stop, end)
        if stop > start:
            covered, reached = covered + stop - start, stop
    return covered
