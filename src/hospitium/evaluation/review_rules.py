"""When an update is odd: robust distances from the other sites and from the site's own past.

A robust distance is ``z = 0.6745 (x - median) / MAD`` (Iglewicz and Hoaglin 1993), with a floor
under the MAD: the median absolute deviation of five values is often tiny by chance. Three rules:

* ``family``: against all sites of the round, where they are five or more;
* ``lasting``: the mean of the site's last five distances from its families;
* ``own``: against the site's own last ten rounds, where they are five or more. What happened to all
  sites alike (a model that got worse, a rate that decays) is taken out where they are five or more.

With fewer than five sites only ``own`` is left, and no rule means much.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Literal, TypeAlias

Figures: TypeAlias = Mapping[str, int]
"""What was measured of one update, in millionths; what was not measured is not in it."""

Verdict: TypeAlias = Literal["clear", "flagged", "held"]
Side: TypeAlias = Literal["high", "low", "both"]

MILLION = 1_000_000
LEAST_FAMILY = 5
LEAST_PAST, LONGEST_PAST = 5, 10
LASTING = 5
STILL_ODD = 2.0
"""A lasting distance counts only in a round in which the site is at least so far off."""

WIDENED = 1.5
"""After a release the limit of a measure is so many times what was released."""

NOT_FINITE = "not_finite"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing that is measured of an update.

    Attributes:
        words: What people call it.
        floor: Least MAD over the sites of a round.
        odd: Which way it is odd, against the others.
        past_floor: Least MAD over the site's own rounds.
        past_odd: Which way it is odd, against the site's own past.
    """

    words: str
    floor: float
    odd: Side
    past_floor: float
    past_odd: Side


MEASURES: Mapping[str, Measure] = {
    "norm": Measure(
        words="length of the change", floor=0.5, odd="both", past_floor=0.5, past_odd="high"
    ),
    "loss": Measure(
        words="loss of the model there", floor=0.35, odd="high", past_floor=0.35, past_odd="high"
    ),
    "auroc": Measure(
        words="AUROC of the model there", floor=0.05, odd="both", past_floor=0.05, past_odd="low"
    ),
    "cosine": Measure(
        words="direction of the change", floor=0.15, odd="low", past_floor=0.2, past_odd="low"
    ),
}
"""``norm`` (before the clip) and ``loss`` are compared in doublings, the others as they are."""

LEAST_LOSS = 0.05
"""Nats per case; losses below are alike. The loss of a model that is nearly always right doubles
many times for one case about which it is a little less sure."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """What is known of a site in one earlier round; ``middle`` is that of all its sites."""

    figures: Figures
    middle: Figures = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    is_held: bool = False
    is_released: bool = False


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the rules say of one update.

    ``scores`` holds, by measure and rule, the distance in hundredths; above 0 is odd. ``why`` names
    measure and rule of each one that led to the verdict, as ``auroc/family``.
    """

    verdict: Verdict
    scores: Mapping[str, Mapping[str, int]]
    why: Sequence[str] = ()


def judge(
    site_id: str,
    *,
    family: Mapping[str, Figures],
    past: Sequence[Past],
    flag_at: float,
    hold_at: float,
    lasting_at: float,
    measures: Collection[str] = tuple(MEASURES),
) -> Judgement:
    """Say whether the update of one site is odd.

    Args:
        site_id: Whose; it is in ``family``.
        family: Figures of all updates of the round.
        past: The site's earlier rounds, the last one last.
        flag_at: A distance above this is shown.
        hold_at: A distance above this holds the update.
        lasting_at: So does a lasting one above this.
        measures: Names of `MEASURES` that are judged.
    """
    if family[site_id].get(NOT_FINITE):
        return Judgement(verdict="held", scores={}, why=(NOT_FINITE,))
    middle = middle_of(family)
    scores, held, flagged = {}, [], []
    for name in MEASURES:
        found = _distances(name, site_id, family, middle, past) if name in measures else {}
        if not found:
            continue
        scores[name] = {rule: round(100 * value) for rule, value in found.items()}
        widened = max(1.0, WIDENED * _released(name, past) / hold_at)
        for rule, value in found.items():
            limit = widened * (lasting_at if rule == "lasting" else hold_at)
            if value > limit and (rule != "lasting" or found["family"] >= STILL_ODD):
                held.append(f"{name}/{rule}")
            elif value > flag_at:
                flagged.append(f"{name}/{rule}")
    verdict: Verdict = "held" if held else "flagged" if flagged else "clear"
    return Judgement(verdict=verdict, scores=scores, why=tuple(held or flagged))


def middle_of(family: Mapping[str, Figures]) -> Figures:
    """Return the median of each measure, where five sites or more have it."""
    found = {}
    for name in MEASURES:
        known = [figures[name] for figures in family.values() if name in figures]
        if len(known) >= LEAST_FAMILY:
            found[name] = round(median(known))
    return found


def distance(value: float, values: Sequence[float], *, floor: float) -> float:
    """Return the robust distance of a value from the median of some values.

    Example:
        >>> round(distance(9.0, [1.0, 2.0, 3.0, 4.0, 9.0], floor=0.1), 2)
        4.05
    """
    middle = median(values)
    spread = max(median(abs(each - middle) for each in values), floor)
    return 0.6745 * (value - middle) / spread


def _distances(
    name: str,
    site_id: str,
    family: Mapping[str, Figures],
    middle: Figures,
    past: Sequence[Past],
) -> dict[str, float]:
    """Return the distances of one measure by every rule that can be used; above 0 is odd."""
    figures, measure = family[site_id], MEASURES[name]
    if name not in figures:
        return {}
    found: dict[str, float] = {}
    value = _value(name, figures)
    chance = 0.6745 * figures.get(f"{name}_error", 0) / MILLION
    if name in middle:
        all_values = [_value(name, each) for each in family.values() if name in each]
        off = distance(value, all_values, floor=max(measure.floor, chance))
        found["family"] = _odd(off, measure.odd)
        before = [each.scores.get(name, {}).get("family") for each in past]
        known = [each / 100 for each in before if each is not None]
        last = [*known, found["family"]][-LASTING:]
        if len(last) == LASTING:
            found["lasting"] = fmean(last)
    is_alike = name in middle
    own = [
        _value(name, each.figures) - (_value(name, each.middle) if is_alike else 0.0)
        for each in past[-LONGEST_PAST:]
        if (each.is_released or not each.is_held)
        and name in each.figures
        and (name in each.middle or not is_alike)
    ]
    if len(own) >= LEAST_PAST:
        now = value - (_value(name, middle) if is_alike else 0.0)
        off = distance(now, own, floor=max(measure.past_floor, chance))
        found["own"] = _odd(off, measure.past_odd)
    return found


def _odd(value: float, side: Side) -> float:
    """Return a distance so that above 0 is odd."""
    return {"high": value, "low": -value, "both": abs(value)}[side]


def _released(name: str, past: Sequence[Past]) -> float:
    """Return the largest distance of a measure that a person said was no fault."""
    released = [each.scores.get(name, {}) for each in past[-LONGEST_PAST:] if each.is_released]
    return max((score / 100 for scores in released for score in scores.values()), default=0.0)


def _value(name: str, figures: Figures) -> float:
    """Return a figure on the scale on which it is compared."""
    value = figures[name] / MILLION
    return math.log2(max(value, LEAST_LOSS)) if name == "loss" else value
