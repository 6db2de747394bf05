"""How fast a site's line may be used each way, and what went over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_S = 0.25
"""How much of an unused line is saved up."""


class Pace:
    """Holds a line to so many bytes a second each way; several threads may share one.

    Args:
        bytes_per_s: The most, each way; 0 is no limit. May be changed at any time.
        clock: Seconds that only grow.
    """

    def __init__(
        self, bytes_per_s: float = 0.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at = {"up": 0.0, "down": 0.0}
        self._bytes = {"up": 0, "down": 0}
        self._lock = threading.Lock()

    def up(self, size: int) -> float:
        """Count bytes that are sent now; return the seconds to wait before the next ones."""
        return self._take("up", size)

    def down(self, size: int) -> float:
        """Count bytes that came; return the seconds to wait before more are read."""
        return self._take("down", size)

    def counted(self) -> tuple[int, int]:
        """Return the bytes sent and received since this was asked last."""
        with self._lock:
            found = self._bytes["up"], self._bytes["down"]
            self._bytes = {"up": 0, "down": 0}
        return found

    def _take(self, way: str, size: int) -> float:
        with self._lock:
            self._bytes[way] += size
            if self.bytes_per_s <= 0:
                return 0.0
            now = self._clock()
            begin = max(self._free_at[way], now - BURST_S)
            self._free_at[way] = begin + size / self.bytes_per_s
            return max(0.0, self._free_at[way] - now)
