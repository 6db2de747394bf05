"""The window or lookup table for the display, to [0, 1] (DICOM PS3.3 C.11.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hospitium.imaging.elements import Elements
from hospitium.imaging.lookup import Lookup, read_lookup

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
_FUNCTIONS: tuple[Function, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window on values after the modality's rescale, in their unit."""

    centre: float
    width: float
    function: Function = "LINEAR"

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return values in [0, 1] (PS3.3 C.11.2.1.2.1 and C.11.2.1.3)."""
        values = np.asarray(values, np.float64)
        if self.function == "SIGMOID":
            # the bound keeps exp finite: at 700 widths off the result is 0 anyway
            power = np.clip(-4.0 * (values - self.centre) / self.width, -700.0, 700.0)
            return np.asarray(1.0 / (1.0 + np.exp(power)))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1.0:
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1.0) + 0.5, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupToUnit:
    """A lookup table whose highest possible entry becomes 1."""

    lookup: Lookup

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return values in [0, 1]."""
        return np.clip(self.lookup.of(values) / ((1 << self.lookup.bits) - 1), 0.0, 1.0)


def read_voi(
    scopes: Sequence[Elements], *, is_signed: bool
) -> tuple[Window | LookupToUnit | None, tuple[str, ...]]:
    """Return the first lookup table, else the first window, of the first scope that has one.

    Args:
        scopes: Where to look, in this order: a frame's own group, the object.
        is_signed: Whether values after the modality's step can be negative.

    Returns:
        None where there is none, and notes: ``window_ignored`` for an illegal one.

    Raises:
        SkipError: ``bad_attribute``: a table or number that does not parse.
    """
    for scope in scopes:
        table = scope.item("VOILUTSequence")
        if table is not None:
            return LookupToUnit(lookup=read_lookup(table, is_signed=is_signed)), ()
    for scope in scopes:
        centres, widths = scope.numbers("WindowCenter"), scope.numbers("WindowWidth")
        if centres and widths:
            return _window(centres[0], widths[0], scope.text("VOILUTFunction").upper())
    return None, ()


def _window(centre: float, width: float, name: str) -> tuple[Window | None, tuple[str, ...]]:
    """Return a window, or None and a note where its width or function is not defined."""
    function = next((known for known in _FUNCTIONS if known == (name or "LINEAR")), None)
    if function is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None, ("window_ignored",)
    return Window(centre=centre, width=width, function=function), ()
