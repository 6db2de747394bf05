"""Small-cell suppression: which counts and shares of a site may be seen outside of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hospitium.errors import UsageError

LEAST = 10
"""The smallest count that may leave a site, other than 0."""

HIDDEN = "hidden"
Shown: TypeAlias = int | str
"""A count as it may be seen: the number, ``"< 10"``, or ``"hidden"``."""

_STEP_PERCENT = 5


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """A site's rule for what is too small to be told.

    Attributes:
        least: Counts from 1 to ``least - 1`` are shown as ``"< least"``. A site may raise it.
    """

    least: int = LEAST

    def __post_init__(self) -> None:
        if self.least < LEAST:
            raise UsageError(
                f"Suppression: counts below {self.least} would be hidden, expected {LEAST} or "
                "more. Nothing was shown. A site may raise this number, never lower it."
            )

    def table(self, cells: Mapping[str, int]) -> tuple[dict[str, Shown], Shown]:
        """Return the cells of a table and their total as they may be seen.

        A small cell that the total and the other cells would give back, in whole or in part, is
        protected by hiding further cells, smallest first; where that is not enough, so is the
        total. Afterwards every hidden small cell may, for all a reader can tell, be any number
        from 1 to ``least - 1``.

        Example:
            >>> Suppression().table({"normal": 90, "pneumonia": 3})
            ({'normal': 90, 'pneumonia': '< 10'}, 'hidden')
            >>> Suppression().table({"a": 3, "b": 40, "c": 60})
            ({'a': '< 10', 'b': 'hidden', 'c': 60}, 103)
        """
        small = {name for name, count in cells.items() if self._is_small(count)}
        total = sum(cells.values())
        if not small or self._is_small(total):
            return {name: self.count(n) for name, n in cells.items()}, self.count(total)
        more = sorted((n, name) for name, n in cells.items() if n >= self.least)
        for taken in range(max(1, len(more))):  # one large cell stays, or else the total goes
            also = {name for _, name in more[:taken]}
            if self._is_protected(cells, small, also):
                return self._shown(cells, also), total
        return self._shown(cells, set()), HIDDEN

    def count(self, count: int) -> Shown:
        """Return one count that stands in no table."""
        return f"< {self.least}" if self._is_small(count) else count

    def rounded(self, shown: Shown) -> Shown:
        """Return what is shown of a count, a number to the nearest multiple of ``least``.

        For tables that count the same persons in several ways: ``103`` in one and ``100`` in
        another would tell of the three who are hidden in a third.

        Example:
            >>> [Suppression().rounded(shown) for shown in (0, "< 10", 14, 103)]
            [0, '< 10', 10, 100]
        """
        if isinstance(shown, str):
            return shown
        return (shown + self.least // 2) // self.least * self.least

    def share(self, part: int, whole: int) -> str:
        """Return a share rounded to 5 %, or that it is hidden: part, rest or whole is too small.

        Example:
            >>> Suppression().share(31, 100), Suppression().share(4, 100)
            ('30 %', 'hidden')
        """
        if whole < self.least or self._is_small(part) or self._is_small(whole - part):
            return HIDDEN
        return f"{_STEP_PERCENT * round(100 * part / whole / _STEP_PERCENT)} %"

    def _is_small(self, count: int) -> bool:
        return 0 < count < self.least

    def _shown(self, cells: Mapping[str, int], also: set[str]) -> dict[str, Shown]:
        return {name: HIDDEN if name in also else self.count(n) for name, n in cells.items()}

    def _is_protected(self, cells: Mapping[str, int], small: set[str], also: set[str]) -> bool:
        """Whether the sum of what is hidden leaves each small cell its whole range.

        A reader knows that sum, that a small cell holds 1 to ``least - 1``, and that another
        hidden cell holds ``least`` or more.
        """
        hidden = sum(cells[name] for name in small | also)
        others_low = (len(small) - 1) + self.least * len(also)
        others_high = None if also else (self.least - 1) * (len(small) - 1)
        lowest_fits = others_high is None or hidden - 1 <= others_high
        highest_fits = hidden - (self.least - 1) >= others_low
        return lowest_fits and highest_fits
