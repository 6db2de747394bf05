"""The fast lane for large downloads: one by one where the hub itself is what they wait for.

Sites that are served alike all begin to work together, and all hand in together: the hub is idle
first and overrun then. One after the other, the first works while the next is served, and the last
is no later than it would have been. Where lines are what downloads wait for, they gain nothing by
this: after a tenth of a second with a hub that has little to do, or a slow line, a download leaves
the lane and goes on beside it, and twice as many are let in. What the hub is busy with may be
something else, so nobody waits longer than a few seconds, whatever the others do.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

LEAST_BYTES = 8 << 20
"""A smaller download is over before another would be noticed: it does not wait."""

WAIT_S = 4.0
"""Longest wait for the lane; then a download goes on beside it."""

LOOK_S = 0.1
"""Time between two looks at how a download in the lane gets on."""

MAX_WIDTH = 1 << 12

LEAST_SHARE = 0.25
"""Processor time of this process in a second, below which it is not what a download waits for."""

LEAST_RATE = 30e6
"""Bytes a second below which a download waits for its line, whatever else the hub has to do."""


@dataclass(eq=False)
class _Ride:
    """A download: whether it may go on yet, what passed since the last look, and when that was."""

    turn: asyncio.Event = field(default_factory=asyncio.Event)
    num_bytes: int = 0
    looked_s: float = 0.0
    worked_s: float = 0.0

    def passed(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes

    def begin(self) -> None:
        """Begin to count anew."""
        self.num_bytes, self.looked_s, self.worked_s = 0, time.monotonic(), time.process_time()

    def waits_for_its_line(self) -> bool:
        """Whether it was not the hub that it waited for since the last look."""
        seconds = max(time.monotonic() - self.looked_s, 1e-6)
        share = (time.process_time() - self.worked_s) / seconds
        return self.num_bytes / seconds < LEAST_RATE or share < LEAST_SHARE


class Lane:
    """Lets one large download go first; all calls are made in the loop of one server."""

    def __init__(self) -> None:
        self._width = 1
        self._riders: set[_Ride] = set()
        self._line: deque[_Ride] = deque()

    @asynccontextmanager
    async def ride(self, size_bytes: int) -> AsyncIterator[Callable[[int], None]]:
        """Be in the lane, or beside it after a moment, for as long as the block lasts.

        Args:
            size_bytes: What is to be sent.

        Yields:
            What is to be told how many bytes the line has taken.
        """
        ride = _Ride()
        try:
            if size_bytes >= LEAST_BYTES:
                if not self._riders:
                    self._width = 1
                self._line.append(ride)
                self._let_in()
                with suppress(TimeoutError):
                    await asyncio.wait_for(ride.turn.wait(), WAIT_S)
                self._leave_line(ride)
            yield ride.passed
        finally:
            self._leave(ride, width=max(1, self._width // 2))

    def _leave_line(self, ride: _Ride) -> None:
        with suppress(ValueError):
            self._line.remove(ride)

    def _leave(self, ride: _Ride, *, width: int) -> None:
        self._leave_line(ride)
        if ride in self._riders:
            self._riders.remove(ride)
            self._width = width
            self._let_in()

    def _let_in(self) -> None:
        while self._line and len(self._riders) < self._width:
            ride = self._line.popleft()
            self._riders.add(ride)
            ride.turn.set()
            self._look_later(ride)

    def _look_later(self, ride: _Ride) -> None:
        ride.begin()
        asyncio.get_running_loop().call_later(LOOK_S, self._look, ride)

    def _look(self, ride: _Ride) -> None:
        """Let a download out of the lane that its own line holds up."""
        if ride not in self._riders:
            return
        if ride.waits_for_its_line():
            self._leave(ride, width=min(2 * self._width, MAX_WIDTH))
        else:
            self._look_later(ride)
