"""Virtual time: strands that take turns on one thread, in an order that a seed decides.

A strand is what a thread is outside of the simulation. Exactly one runs at a time, until it waits;
then the next one that is due goes on, and the clock jumps to its moment. `Threading`, `Time` and
`Queueing` stand in for the standard library's modules within the product's code.
"""

from __future__ import annotations

import traceback
import zlib
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from greenlet import getcurrent, greenlet

BEGIN_S = 1000.0
BEGIN_UTC_S = 1_795_251_600.0
"""2026-11-21 09:00 UTC: what the wall clock shows at the beginning."""


class KilledError(BaseException):
    """The process of this strand is gone; nothing of it may go on."""


class Strand:
    """One thread of one simulated process."""

    def __init__(self, world: World, node: Any, target: Callable[[], object], name: str) -> None:
        self.world, self.node, self.name = world, node, name
        self.ident = world.number()
        self.ticket = 0
        self.is_parked = False
        self.is_done = False
        self.joiners: list[Strand] = []
        self._target = target
        self.body = greenlet(self._run, parent=world.root)

    def _run(self, woken: bool = False) -> None:
        try:
            self._target()
        except KilledError:
            pass
        except BaseException:
            if not self.node.is_dead:
                self.world.errors.append(f"{self.node.name}/{self.name}: {traceback.format_exc()}")
        self.is_done = True
        for joiner in self.joiners:
            self.world.wake(joiner)


class World:
    """One simulated world: a clock, what is due when, and who runs now.

    Args:
        seed: Decides the order of what is due at the same moment, and every draw by `chance`.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = BEGIN_S
        self.root = getcurrent()
        self.current: Strand | None = None
        self.errors: list[str] = []
        self.strands: list[Strand] = []
        self.num_events = 0
        self._due: list[tuple[float, int, int, Callable[[], None]]] = []
        self._number = 0
        self._draws: dict[str, int] = {}

    def number(self) -> int:
        """Return the next number of this world."""
        self._number += 1
        return self._number

    def draw(self, *what: object) -> int:
        """Return 32 bits that depend on the seed, on what is asked, and how often it was."""
        name = "/".join(map(str, what))
        count = self._draws[name] = self._draws.get(name, 0) + 1
        return zlib.crc32(
            f"{self.seed}:{name}:{count}:{self.seed * 2654435761 % 4294967291}".encode()
        )

    def chance(self, share: float, *what: object) -> bool:
        """Return true in this share of the draws."""
        return share > 0 and self.draw(*what) < share * 4294967296

    def between(self, low: float, high: float, *what: object) -> float:
        """Return a number between two."""
        return low + (high - low) * self.draw(*what) / 4294967296

    # --- what is due ------------------------------------------------------------------------

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Do something at a moment; what is due at the same moment comes in the seed's order."""
        number = self.number()
        order = (number * 2654435761 ^ self.seed * 40503) & 0xFFFF
        heappush(self._due, (max(time, self.now), order, number, call))

    def run(self, *, until: float, is_over: Callable[[], bool]) -> None:
        """Go on until it is over, nothing is due any more, or the clock shows this."""
        while self._due and not is_over():
            time, _, _, call = heappop(self._due)
            if time > until:
                return
            self.now = time
            self.num_events += 1
            call()

    # --- strands ----------------------------------------------------------------------------

    def spawn(self, node: Any, target: Callable[[], object], name: str) -> Strand:
        """Begin a strand, now."""
        strand = Strand(self, node, target, name)
        self.strands.append(strand)
        strand.is_parked = True
        self.at(self.now, lambda: self._resume(strand, 0))
        return strand

    def park(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody wakes this strand; False where the time was over before."""
        strand = self.current
        assert strand is not None, "only a strand can wait"
        if strand.node.is_dead:
            raise KilledError
        strand.ticket += 1
        ticket = strand.ticket
        strand.is_parked = True
        if timeout_s is not None:
            self.at(self.now + max(0.0, timeout_s), lambda: self._resume(strand, ticket))
        woken = self.root.switch()
        if strand.node.is_dead:
            raise KilledError
        return bool(woken)

    def wake(self, strand: Strand) -> None:
        """Let a strand that waits go on."""
        if strand.is_parked:
            ticket = strand.ticket
            self.at(self.now, lambda: self._resume(strand, ticket, woken=True))

    def sleep(self, seconds: float) -> None:
        """Wait for this long."""
        self.park(seconds)

    def stop_here(self) -> None:
        """Leave the strand that runs where it is, for good: its process is dead."""
        self.root.switch()
        raise KilledError

    def _resume(self, strand: Strand, ticket: int, *, woken: bool = False) -> None:
        if not strand.is_parked or strand.ticket != ticket or strand.node.is_dead:
            return
        strand.is_parked = False
        self.current = strand
        strand.body.switch(woken)
        self.current = None

    def end(self) -> None:
        """Unwind every strand that is left, so that nothing of this world lives on."""
        for strand in self.strands:
            strand.node.is_dead = True
            if strand.body and not strand.body.dead:
                self.current = strand
                while not strand.body.dead:
                    strand.body.throw(KilledError)
        self.current = None


_worlds: list[World] = []


def world() -> World:
    """Return the world that is simulated now."""
    return _worlds[-1]


def enter(new: World) -> None:
    """Make a world the one that is simulated."""
    _worlds.append(new)


def leave() -> None:
    """Go back to the world before."""
    _worlds.pop()
