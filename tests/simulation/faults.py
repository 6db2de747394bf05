"""The faults of one world: a list that a seed draws, and that can be made shorter."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simulated_federation import SITES
from site_lies import LIES

LIVE_S = 300.0
"""When faults stop, in a world in which the run must come to its end."""

CENTRE = "centre"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault; what ``amount`` and ``name`` mean depends on its kind."""

    kind: str
    who: str = ""
    at: float = 0.0
    for_s: float = 0.0
    amount: float = 0.0
    name: str = ""

    def __str__(self) -> str:
        fields = {key: value for key, value in asdict(self).items() if value not in ("", 0.0)}
        return "Fault(" + ", ".join(f"{key}={value!r}" for key, value in fields.items()) + ")"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A seed with its faults; ``must_end`` where the run has to finish after they stop."""

    seed: int
    must_end: bool
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        listed = "".join(f"\n        {fault}," for fault in self.faults)
        return (
            f"Scenario(\n    seed={self.seed}, must_end={self.must_end},\n"
            f"    faults=({listed}\n    ),\n)"
        )


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    draw = random.Random(seed)
    must_end = draw.random() < 0.5
    faults = [*_weather(draw), *_machines(draw), *_people(draw)]
    return Scenario(seed=seed, must_end=must_end, faults=tuple(faults))


def _weather(draw: random.Random) -> list[Fault]:
    """Return how bad the network is."""
    found = []
    for kind, most, often in (
        ("drop", 0.4, 0.4), ("duplicate", 0.5, 0.35), ("corrupt", 0.15, 0.3), ("replay", 0.3, 0.15),
        ("old_list", 0.5, 0.1),
    ):  # fmt: skip
        if draw.random() < often:
            found.append(Fault(kind=kind, amount=round(draw.uniform(0.02, most), 3)))
    if draw.random() < 0.4:
        found.append(Fault(kind="delay", amount=round(draw.uniform(2, 30), 1)))
    return found


def _machines(draw: random.Random) -> list[Fault]:
    """Return what happens to machines and lines."""
    makers: Sequence[tuple[float, Callable[[random.Random], Fault]]] = (
        (3.0, _crash), (2.0, _power_cut), (1.5, _cut), (1.0, _full), (0.7, _slow), (1.0, _clock),
        (1.0, _lost_store), (0.6, _second),
    )  # fmt: skip
    number = draw.choice((0, 1, 1, 1, 2, 2, 3, 4))
    weights, makes = zip(*makers, strict=True)
    return [make(draw) for make in draw.choices(makes, weights, k=number)]


def _who(draw: random.Random) -> str:
    return draw.choice([CENTRE, CENTRE, *SITES])


def _crash(draw: random.Random) -> Fault:
    who = _who(draw)
    most = 260 if who == CENTRE else 380
    return Fault(
        kind="crash", who=who, amount=draw.randrange(most), for_s=draw.choice((1.0, 10.0, 200.0))
    )


def _power_cut(draw: random.Random) -> Fault:
    return Fault(**{**asdict(_crash(draw)), "kind": "power_cut"})


def _cut(draw: random.Random) -> Fault:
    return Fault(
        kind="cut", who=draw.choice(list(SITES)), at=round(draw.uniform(0, 100), 1),
        for_s=round(draw.uniform(5, 400), 1), name=draw.choice(("up", "down", "both")),
    )  # fmt: skip


def _full(draw: random.Random) -> Fault:
    return Fault(
        kind="full",
        who=_who(draw),
        at=round(draw.uniform(0, 60), 1),
        for_s=round(draw.uniform(1, 120), 1),
    )


def _slow(draw: random.Random) -> Fault:
    return Fault(kind="slow", who=draw.choice(list(SITES)), amount=round(draw.uniform(2, 60), 1))


def _clock(draw: random.Random) -> Fault:
    return Fault(
        kind="clock",
        who=_who(draw),
        at=round(draw.uniform(0, 60), 1),
        amount=draw.choice((-86400.0, 86400.0)),
    )


def _lost_store(draw: random.Random) -> Fault:
    return Fault(
        kind="lost_store",
        at=round(draw.uniform(0, 40), 1),
        name=draw.choice(("running", "restarted")),
    )


def _second(draw: random.Random) -> Fault:
    return Fault(
        kind="second", at=round(draw.uniform(0, 30), 1), name=draw.choice(("locked", "not locked"))
    )


def _people(draw: random.Random) -> list[Fault]:
    """Return what people do; at most one site is out of the run for it."""
    kind = draw.choices(
        ("", "revoke", "withdraw", "new_list", "split", "lie"), (4, 1, 1, 1, 0.5, 3)
    )[0]
    at, who = round(draw.uniform(0, 40), 1), draw.choice(list(SITES))
    if kind == "lie":
        return [Fault(kind="lie", who=who, name=draw.choice([*LIES, "second", "impersonate"]))]
    return [Fault(kind=kind, who=who, at=at)] if kind else []


def shrunk(scenario: Scenario, fails: Callable[[Scenario], Any]) -> Scenario:
    """Return a scenario with as few faults as still fail, taken out one by one."""
    faults = list(scenario.faults)
    at = 0
    while at < len(faults):
        fewer = Scenario(
            seed=scenario.seed,
            must_end=scenario.must_end,
            faults=tuple(faults[:at] + faults[at + 1 :]),
        )
        if fails(fewer):
            del faults[at]
        else:
            at += 1
    return Scenario(seed=scenario.seed, must_end=scenario.must_end, faults=tuple(faults))
