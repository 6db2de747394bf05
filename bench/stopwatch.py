"""When the functions that hash, write and read arrays were at work, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from hospitium.algorithms import fedavg
from hospitium.site import egress
from hospitium.state import durable
from hospitium.wire import blob

WATCHED: tuple[tuple[Any, str, str], ...] = (
    (fedavg, "digest_of", "hash"),
    (blob, "digest_of", "hash"),
    (blob, "file_digest", "hash"),
    (blob, "read", "read"),
    (durable, "write_atomically", "write"),
    (egress, "_write", "write"),
)
"""``(module, function, kind)``; a write hashes and syncs too."""


class Stopwatch:
    """Notes ``(kind, begin, end)`` of every outermost call, on the clock that processes share."""

    def __init__(self) -> None:
        self.intervals: list[tuple[str, float, float]] = []
        self._depth = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch all of these functions."""
        with ExitStack() as stack:
            for module, name, kind in WATCHED:
                timed = self._timed(getattr(module, name), kind)
                stack.enter_context(patch.object(module, name, timed))
            yield

    def _timed(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.intervals.append((kind, started, time.monotonic()))

        return timed
