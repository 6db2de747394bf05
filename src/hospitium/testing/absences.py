"""An engine some of whose sites are away in some rounds, by a fixed list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hospitium.types import Answers, Engine, LeftOut, Task

IsAway = Callable[[str, int], bool]
"""Whether a site is away in a round."""


class Absences:
    """Wraps an engine: whoever is away is silent until the deadline, which nobody waits for here.

    In a task that only scores, a site is away if it is in the round after the last one.

    Args:
        engine: The engine that is asked for everybody else.
        is_away: Says who is away when.
    """

    def __init__(self, engine: Engine, is_away: IsAway) -> None:
        self._engine = engine
        self._is_away = is_away

    def select(self, *, round_number: int) -> Sequence[str]:
        """Whoever is away is asked too: nobody knows before."""
        return self._engine.select(round_number=round_number)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Yield that a site which is away did not answer, and what the others answer."""
        away = [site_id for site_id in site_ids if self._is_away(site_id, task.round_number)]
        for site_id in away:
            yield LeftOut(site_id=site_id, reason="deadline")
        there = [site_id for site_id in site_ids if site_id not in away]
        yield from self._engine.ask(task, there, deadline_s=deadline_s)

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Return who of these must not count any more; see `Engine`."""
        return self._engine.gone(site_ids)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
