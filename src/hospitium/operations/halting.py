"""Pausing and stopping a run: a wish in its folder, which whoever works on it follows.

A pause holds from the next round on. A stop holds at once between machines, and from the next round
on where the sites are on this machine. Nothing is lost: the ledger has all that was accepted, and
`hospitium run resume` goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hospitium.errors import InterruptedRunError
from hospitium.state import durable
from hospitium.types import Answers, Engine, LeftOut, Task

Wish = Literal["", "paused", "stopped"]
"""What a person wants of a run: to go on, to wait between two rounds, or to end for now."""

_WISHES: tuple[Wish, ...] = ("stopped", "paused")


def wish_of(folder: Path) -> Wish:
    """Return what is wanted of the run in this folder."""
    return next((wish for wish in _WISHES if (folder / wish).exists()), "")


def set_wish(folder: Path, wish: Wish) -> None:
    """Say what is wanted of the run from now on."""
    if wish:
        durable.write_once(folder / wish, b"")
    for other in _WISHES:
        if other != wish:
            durable.delete(folder / other)


class Halting:
    """An engine that begins no round of a run that is to wait."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    def select(self, *, round_number: int) -> Sequence[str]:
        """Return the sites to ask, unless a person wants the run to wait.

        Raises:
            InterruptedRunError: It is to wait. Every closed round is kept.
        """
        wish = wish_of(self._folder)
        if wish:
            raise InterruptedRunError(
                f"{self._folder.name}: the run was {wish} before round {round_number}. Every "
                "closed round and every accepted update is kept. Go on with it by `hospitium run "
                f"resume {self._folder.name}`."
            )
        return self._engine.select(round_number=round_number)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Give the task to these sites; see `Engine`."""
        return self._engine.ask(task, site_ids, deadline_s=deadline_s)

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Return who of these must not count any more; see `Engine`."""
        return self._engine.gone(site_ids)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
