"""How an agent finds itself in one federation: for `hospitium site status` and the heartbeat.

The agent writes it to ``agent.json``; words in it stay at the site.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hospitium.errors import HospitiumError
from hospitium.state import durable
from hospitium.wire.canonical import canonical_json
from hospitium.wire.statement import read_time, time_text

FILE = "agent.json"
ENDED = "ended"
FRESH_S = 120.0
"""What an agent wrote longer ago than this says nothing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One look at an agent.

    Attributes:
        state: What it does: ``waiting``, ``fetching``, ``training``, ``sending``, ``paused``,
            ``closed`` (outside its hours, or a limit of the day is reached), ``stopping``, or
            ``ended`` for one that was to look once.
        reachable: Whether the coordinator answered the last request as one of a member.
        decoding: Whether what the coordinator signed could be read and verified, last time.
        round_number: Of the task taken last; None before the first.
        last_error: What went wrong last, in words that stay here; "" if it has passed.
        last_code: The code of that error.
        isolation: Whether the training process is cut off from the network.
        standing: What the coordinator thinks of this site; empty before it said so.
    """

    state: str = "waiting"
    reachable: bool = False
    decoding: bool = False
    round_number: int | None = None
    last_error: str = ""
    last_code: str = ""
    isolation: str = "not_tested"
    standing: dict[str, Any] = field(default_factory=dict)


class Condition:
    """How the agent is; its threads write to it, each what it finds.

    Args:
        folder: The federation's folder at this site.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._fields: dict[str, Any] = {}
        self._written: tuple[str, datetime] | None = None

    @property
    def found(self) -> Found:
        """The present look."""
        with self._lock:
            return Found(**self._fields)

    def note(self, **fields: Any) -> None:
        """Change some fields."""
        with self._lock:
            self._fields.update(fields)

    def failed(self, error: BaseException, **fields: Any) -> None:
        """Remember what went wrong."""
        code = error.code if isinstance(error, HospitiumError) else "E001"
        self.note(last_error=f"{code}: {error}", last_code=code, **fields)

    def passed(self, **fields: Any) -> None:
        """Forget what went wrong: it has passed."""
        self.note(last_error="", last_code="", **fields)

    def write(self, *, now: datetime, every_s: float = 10.0) -> None:
        """Write the file, if anything changed or some time has passed."""
        fields = asdict(self.found)
        look = canonical_json(fields).decode()
        if self._written is not None:
            before, at = self._written
            if before == look and (now - at).total_seconds() < every_s:
                return
        data = canonical_json({**fields, "time": time_text(now)})
        durable.write_atomically(self._path, lambda file: str(file.write(data)))
        self._written = look, now

    def clear(self) -> None:
        """Take the file away: the agent has ended."""
        durable.delete(self._path)


def read_condition(folder: Path, *, now: datetime) -> tuple[Found, str]:
    """Return what the agent wrote last, if that was a moment ago, and ``running`` in that case.

    Returns:
        A look that says nothing, and ``silent``, if it stopped without a word; ``stopped``, if it
        does not run, with the look of an agent that was to look once and did so a moment ago.
    """
    try:
        fields = json.loads((folder / FILE).read_bytes())
        age_s = abs((now - read_time(fields.pop("time"))).total_seconds())
        found = Found(**fields)
    except OSError:
        return Found(), "stopped"
    except (ValueError, KeyError, TypeError):
        return Found(), "silent"
    is_fresh, has_ended = age_s <= FRESH_S, found.state == ENDED
    return found if is_fresh else Found(), _word(is_fresh=is_fresh, has_ended=has_ended)


def _word(*, is_fresh: bool, has_ended: bool) -> str:
    if has_ended:
        return "stopped"
    return "running" if is_fresh else "silent"
