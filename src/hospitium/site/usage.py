"""What a site has used today for one federation: bytes each way and time of training.

The day is that of the site's own clock and place. Written through, so that a restart does not
begin a new allowance.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from hospitium.site.policy import LimitsSection
from hospitium.state import durable
from hospitium.wire.canonical import canonical_json


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day's use; ``compute_s`` in whole seconds."""

    day: str
    sent_bytes: int = 0
    received_bytes: int = 0
    compute_s: int = 0


class Usage:
    """Counts the present day, on disk; safe to use from several threads.

    Args:
        folder: The federation's folder at this site.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "usage.json"
        self._lock = threading.Lock()

    def today(self, now: datetime) -> Day:
        """Return what was used on the day of this time."""
        name = now.astimezone().date().isoformat()
        try:
            found = Day(**json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return Day(day=name)
        return found if found.day == name else Day(day=name)

    def add(
        self, now: datetime, *, sent_bytes: int = 0, received_bytes: int = 0, compute_s: float = 0.0
    ) -> None:
        """Count what was used just now."""
        if not (sent_bytes or received_bytes or compute_s):
            return
        with self._lock:
            day = self.today(now)
            day = replace(
                day,
                sent_bytes=day.sent_bytes + sent_bytes,
                received_bytes=day.received_bytes + received_bytes,
                compute_s=day.compute_s + round(compute_s),
            )
            data = canonical_json(asdict(day))
            durable.write_atomically(self._path, lambda file: str(file.write(data)))


def is_used_up(limits: LimitsSection, day: Day) -> bool:
    """Whether a limit of the day is reached: no task is begun before the next one."""
    return bool(
        (limits.bytes_per_day and day.sent_bytes >= limits.bytes_per_day)
        or (limits.compute_hours_per_day and seconds_left(limits, day) <= 0)
    )


def seconds_left(limits: LimitsSection, day: Day) -> float:
    """Return how long one task may take now: of the day's allowance and of the task's own."""
    most = [
        3600 * limits.task_hours if limits.task_hours else float("inf"),
        3600 * limits.compute_hours_per_day - day.compute_s
        if limits.compute_hours_per_day
        else float("inf"),
    ]
    return min(most)
