"""What the hub refused, for the people at the coordinating centre: who, what, why, how often.

A line is written the first time that somebody is refused something for a reason, and then at most
one a minute, with the number of times since. So a flood is seen and does not fill the disk. Nothing
of what was sent is in it: a refused request is somebody else's text.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import Message, Send

from hospitium.types import Json
from hospitium.wire.canonical import canonical_json

RECORD = "refused.jsonl"
EVERY_S = 60.0
MAX_KEPT = 4096
"""Who, what and why that are counted at a time; what was silent longest is forgotten."""
MAX_BYTES = 8 << 20
"""Of the file; then it is put aside as ``refused.1.jsonl``, in place of the one before."""

_ROUTES = re.compile(
    r"(GET|POST|PUT) /v1/(challenge|enrolments|members|plans|said|heartbeat|standing|echo|tasks|"
    r"envelopes|blobs|uploads)(/|$)",
    re.ASCII,
)
_ASKED_FIRST = ("GET uploads", 404)
"""Every honest upload begins with the question what is there already."""
_REASON = re.compile(rb'"reason":"([a-z_]{1,40})"')


@dataclass(kw_only=True)
class _Counted:
    """How often since the last line, and when that was."""

    since: int = 0
    written_s: float = -EVERY_S


class Refusals:
    """The record of one hub; called in its server's loop.

    Args:
        path: The file; None keeps no record.
        clock: Seconds that only grow.
    """

    def __init__(
        self, path: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._clock = clock
        self._counted: OrderedDict[tuple[str, str, int, str], _Counted] = OrderedDict()

    def watching(self, send: Send, *, who: Callable[[], str], question: str) -> Send:
        """Return a ``send`` that notes an answer which refuses.

        Args:
            send: Where the answer goes.
            who: Says the site that signed, or the address that did not.
            question: What was asked for, as ``GET /v1/tasks``.
        """
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status >= 400:
                reason = _REASON.search(message.get("body", b"")[:1000])
                self.note(who(), question, status, reason[1].decode() if reason else "")
                status = 0
            await send(message)

        return sending

    def note(self, who: str, question: str, status: int, reason: str) -> None:
        """Count a refusal, and write it down if it is time to; a full disk changes nothing."""
        found = _ROUTES.match(question)
        route = f"{found[1]} {found[2]}" if found else "other"
        if self._path is None or (route, status) == _ASKED_FIRST:
            return
        place = (who, route, status, reason)
        counted = self._counted.setdefault(place, _Counted())
        self._counted.move_to_end(place)
        while len(self._counted) > MAX_KEPT:
            self._counted.popitem(last=False)
        counted.since += 1
        if self._clock() - counted.written_s < EVERY_S:
            return
        line: dict[str, Json] = {
            "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "who": who,
            "route": route,
            "status": status,
            "reason": reason,
            "times": counted.since,
        }
        with suppress(OSError):
            self._append(self._path, canonical_json(line) + b"\n")
        counted.since, counted.written_s = 0, self._clock()

    @staticmethod
    def _append(path: Path, line: bytes) -> None:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            path.replace(path.with_suffix(".1.jsonl"))
        with path.open("ab") as file:
            file.write(line)
