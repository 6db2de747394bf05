"""What the person who watches an agent reads of each task: that it came, what was done and sent."""

from __future__ import annotations

import time
from collections.abc import Callable

from hospitium.engines.hub.agreed import Approved
from hospitium.engines.hub.answers import Kept
from hospitium.types import Task


class Telling:
    """Tells of one task after the other, in a line when it is taken up and one when it is done.

    Args:
        say: Where the lines go; they stay at the site.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._name = "a task"
        self._begun = 0.0
        self._done = ""

    def begun(self, task: Task, approved: Approved, kept: Kept | None) -> None:
        """A task was taken up that the site has agreed to; its answer may be on disk already."""
        is_over = task.round_number > approved.plan.rounds.count
        when = "after the last round" if is_over else f"round {task.round_number}"
        self._name = f"{task.run_id}, {when}"
        self._begun = time.monotonic()
        work, self._done = _WORK[task.purpose] if kept is None else _AGAIN
        self._say(f"{self._name}: a task came; {work.format(num_cases=approved.num_cases)}")

    def sent(self, kept: Kept) -> None:
        """The coordinator has signed for an answer."""
        if kept.kind == "error":
            words = kept.content.decode(errors="replace")
            self._say(f"{self._name}: no update; the coordinator was told: {words}")
        else:
            size = len(kept.content) + (kept.file.stat().st_size if kept.file is not None else 0)
            self._say(
                f"{self._name}: {self._done}, in {time.monotonic() - self._begun:.1f} s with the "
                f"way there; {_size(size)} were sent, and the coordinator has signed for them"
            )
        self._name = "a task"


_WORK = {
    "train": ("training on {num_cases:,} cases", "trained"),
    "score": ("scoring the model on this site's validation cases", "scored"),
}
_AGAIN = ("its answer is kept here, and is sent again", "answered before")


def _size(size_bytes: int) -> str:
    """Return a size as a person reads it."""
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} KB"
    return f"{size_bytes / 1e6:.1f} MB"
