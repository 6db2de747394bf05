"""Answers that have come in and are being opened, one at a time, while others come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from hospitium.state.hub_store import StoredAnswer
from hospitium.types import Answer

NUM_OPENERS = 1
"""How many files are opened at a time; a second one made no round shorter on two cores."""

LOOK_S = 0.02
"""Time between two looks for what has arrived, while something is being opened."""


class Openers:
    """Answers that are being opened, one after the other: each is as large as the model.

    What was taken out is not held on to, and another is begun only then.

    Args:
        work: Opens one.
    """

    def __init__(self, work: Callable[[StoredAnswer], Answer | None]) -> None:
        self._work = work
        self._threads = ThreadPoolExecutor(NUM_OPENERS, thread_name_prefix="open")
        self._line: deque[StoredAnswer] = deque()
        self._sites: dict[Future[Answer | None], str] = {}

    def __bool__(self) -> bool:
        return bool(self._sites or self._line)

    def add(self, stored: StoredAnswer) -> None:
        """Take one on."""
        self._line.append(stored)
        self._begin()

    def done(self) -> Iterator[tuple[str, Answer | None]]:
        """Wait a moment for one to be done, and take it out."""
        ready, _ = wait(self._sites, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        while ready:
            future = ready.pop()
            site_id = self._sites.pop(future)
            result = [future.result()]
            del future
            yield site_id, result.pop()
        self._begin()

    def close(self) -> None:
        """Open no more; wait for what is being opened."""
        self._threads.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        while self._line and len(self._sites) < NUM_OPENERS:
            stored = self._line.popleft()
            self._sites[self._threads.submit(self._work, stored)] = stored.site_id
