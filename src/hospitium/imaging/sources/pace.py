"""How quickly and when a PACS is asked: a rate, a time window, and a clock that tests can turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from hospitium.errors import PacsError
from hospitium.imaging.sources.pacs import PacsSettings


def _local_now() -> datetime:
    return datetime.now().astimezone()


@dataclass(kw_only=True)
class Pace:
    """Spaces what is fetched, and stops outside the time window.

    Attributes:
        clock: Seconds that only grow.
        sleep: Waits for seconds.
        now: The local time of day.
    """

    settings: PacsSettings
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = _local_now
    _next: float = field(default=0.0, init=False)

    def check_open(self) -> None:
        """Stop if it is not the time to ask.

        Raises:
            PacsError: We are outside the time window of the settings.
        """
        if not self.settings.is_open(self.now().time()):
            raise PacsError(
                f"PACS {self.settings.name}: it is {self.now():%H:%M}, and the settings allow to "
                f"ask from {self.settings.hours.replace('-', ' to ')} only. What arrived whole is "
                "kept. Run the same command again in these hours: it goes on where it stopped."
            )

    def instance(self) -> None:
        """Wait until the next instance may be fetched.

        Raises:
            PacsError: We are outside the time window of the settings.
        """
        self.check_open()
        early = self._next - self.clock()
        if early > 0:
            self.sleep(early)
        self._next = max(self._next, self.clock()) + 1.0 / self.settings.instances_per_s

    def wait_until(self, moment: float) -> None:
        """Wait until the clock shows this."""
        left = moment - self.clock()
        if left > 0:
            self.sleep(left)
