"""How long a site lets the hub hold a poll: shorter where something in between cuts long ones.

Proxies and firewalls cut connections on which nothing passes, many after 60 s, some after 10 s. A
poll that was cut is made again at once, so that no task is late; it only costs a new connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from hospitium.errors import HubError

LEAST_S = 5
"""No poll is made shorter than this: a hub that is away should not be asked more often."""

WAITED_S = 1.0
"""What failed sooner was not cut while it waited: there was nobody to ask."""

HELD = 20
"""So many polls in a row must have been held before a longer one is tried again."""


class PollLength:
    """The longest poll that passed of late, in whole seconds.

    Args:
        log: Told when it becomes shorter.
        stop: Once it is set, a poll that ends early was ended here.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        log: Callable[[str], None] = lambda text: None,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._stop = stop or threading.Event()
        self._clock = clock
        self._most_s = 0
        self._held = 0

    def of(self, wished_s: int) -> int:
        """Return for how long to ask; never longer than is wished."""
        return min(wished_s, self._most_s or wished_s)

    @contextmanager
    def watched(self, wait_s: int) -> Iterator[None]:
        """Learn from one poll: what it raises goes on, and the next is half as long if it was cut.

        Args:
            wait_s: What was asked for; a poll shorter than `LEAST_S` teaches nothing.
        """
        begun = self._clock()
        try:
            yield
        except (httpx.TransportError, HubError) as error:
            waited_s = self._clock() - begun
            is_over = waited_s > WAITED_S and not self._stop.is_set()
            if wait_s > LEAST_S and is_over and _is_cut(error):
                self._shorten(wait_s, waited_s)
            raise
        else:
            if wait_s >= LEAST_S and self._clock() - begun >= wait_s:
                self._lengthen(wait_s)

    def _shorten(self, wait_s: int, waited_s: float) -> None:
        self._most_s, self._held = max(LEAST_S, wait_s // 2), 0
        self._log(
            f"something in between cut a poll of {wait_s} s after {waited_s:.0f} s; the hub is "
            f"asked for {self._most_s} s from now on"
        )

    def _lengthen(self, wait_s: int) -> None:
        """Try twice the length once enough of this one have been held to their end."""
        self._held += 1
        if self._most_s and self._held >= HELD:
            self._most_s, self._held = 2 * wait_s, 0


def _is_cut(error: Exception) -> bool:
    """Whether a connection broke or fell silent, or a gateway gave up, while the hub waited."""
    if isinstance(error, HubError):
        return error.reason == "unreachable" and error.status in (408, 502, 504)
    return not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
