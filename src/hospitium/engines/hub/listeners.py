"""Who waits at this hub for tasks of which site."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection


class Listeners:
    """Calls that are made when tasks were put for a site; safe to use from several threads."""

    def __init__(self) -> None:
        self._wakes: defaultdict[str, set[Callable[[], None]]] = defaultdict(set)
        self._lock = threading.Lock()

    def add(self, site_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` (from any thread) from now on for a site; return the end of it."""
        with self._lock:
            self._wakes[site_id].add(wake)

        def end() -> None:
            with self._lock:
                self._wakes[site_id].discard(wake)

        return end

    def wake(self, site_ids: Collection[str] | None) -> None:
        """Wake who waits for these sites, or everybody."""
        with self._lock:
            chosen = list(self._wakes) if site_ids is None else site_ids
            awake = [wake for site_id in chosen for wake in self._wakes.get(site_id, ())]
        for wake in awake:
            wake()
