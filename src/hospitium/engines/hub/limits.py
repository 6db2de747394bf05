"""How much one caller may ask of the hub, so that none can stop the others."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hospitium.errors import HubError

MAX_CALLERS = 4096
"""Callers that are remembered; the one that was silent longest gives way."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one site may do; addresses whose requests nobody signed share the smaller figures.

    Attributes:
        requests_per_s: Requests that a caller may make without end.
        burst: Requests that it may save up.
        unsigned_per_s: The same for requests that no known key signed, and for challenges.
        unsigned_burst: What of these an address may save up.
        at_once: Requests of a site that may be under way together.
        bytes_per_day: Bytes that a site may send in a day; its burst is a whole day's.
        body_s: Seconds of silence after which a body is given up.
        wait_s: Longest wait of a long poll, in seconds.
        statement_bytes: Largest statement that goes with an update.
        small_bytes: Largest other statement: enrolment, approval, heartbeat.
        enrolments_per_s: Enrolment requests that one address may send; nobody signed these.
        enrolments_burst: What of these it may save up.
        beats_per_s: Heartbeats that a site may send without end; its burst is ten.
        echo_bytes: Largest body of an echo, and its largest answer.
        echo_bytes_per_s: Bytes that a site may have echoed without end.
        echo_burst: What of these it may save up.
    """

    requests_per_s: float = 500.0
    burst: float = 2000.0
    unsigned_per_s: float = 20.0
    unsigned_burst: float = 200.0
    at_once: int = 16
    bytes_per_day: float = float(1 << 40)
    body_s: float = 30.0
    wait_s: float = 50.0
    statement_bytes: int = 2 << 20
    small_bytes: int = 64 << 10
    enrolments_per_s: float = 0.5
    enrolments_burst: float = 20.0
    beats_per_s: float = 1.0
    echo_bytes: int = 8 << 20
    echo_bytes_per_s: float = float(1 << 20)
    echo_burst: float = float(128 << 20)


@dataclass(kw_only=True)
class _Bucket:
    """Fills at a steady rate up to its size; whoever asks takes out of it."""

    level: float
    at_s: float


class Meter:
    """Counts what each caller asks for, at one steady rate.

    Args:
        per_s: How fast a caller's allowance grows back.
        burst: Its size.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str, amount: float = 1.0) -> None:
        """Take from a caller's allowance.

        Raises:
            HubError: Status 429: it is used up; nothing was taken.
        """
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(level=self._burst, at_s=now))
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        bucket.level = min(self._burst, bucket.level + (now - bucket.at_s) * self._per_s)
        bucket.at_s = now
        if bucket.level < amount:
            raise too_busy((amount - bucket.level) / self._per_s)
        bucket.level -= amount


class Crowd:
    """Counts the requests of each caller that are under way."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._inside: dict[str, int] = {}

    @contextmanager
    def inside(self, caller: str) -> Iterator[None]:
        """Be under way for as long as the block lasts.

        Raises:
            HubError: Status 429: too many of this caller's are.
        """
        if self._inside.get(caller, 0) >= self._at_once:
            raise too_busy(1.0)
        self._inside[caller] = self._inside.get(caller, 0) + 1
        try:
            yield
        finally:
            self._inside[caller] -= 1
            if not self._inside[caller]:
                del self._inside[caller]


def too_busy(wait_s: float) -> HubError:
    """Return the error of a caller that asks for too much."""
    return HubError(
        "busy",
        f"Too many requests. Nothing was done. Try again in {max(1, round(wait_s))} seconds.",
        status=429,
        retry_after_s=max(1.0, float(round(wait_s))),
    )
