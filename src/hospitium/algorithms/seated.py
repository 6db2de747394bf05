"""An algorithm whose seats are looked up for each round: a site may come in while a run is going.

Weights, and who may answer, follow from the seats of the round. What happens to the sum afterwards
does not: the next params are a function of the state and the result alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hospitium.types import Aggregate, Algorithm, Result, Seat, State, Task


@dataclass(frozen=True, kw_only=True)
class Seated:
    """An algorithm, built anew for the seats of each round; its state is all in the ledger.

    Attributes:
        build: Returns the algorithm for some seats.
        seats_of: Returns the seats of a round; the same ones each time it is asked about an open
            or closed round.
    """

    build: Callable[[Sequence[Seat]], Algorithm]
    seats_of: Callable[[int], Sequence[Seat]]

    def init(self) -> State:
        """Return the state before round 1."""
        return self._at(1).init()

    def task(self, state: State, *, round_number: int) -> Task:
        """Return what every site is asked in this round."""
        return self._at(round_number).task(state, round_number=round_number)

    def aggregate(self, task: Task) -> Aggregate:
        """Return an empty sum for the seats of this round."""
        return self._at(task.round_number).aggregate(task)

    def step(self, state: State, result: Result) -> State:
        """Return the next state."""
        return self._at(1).step(state, result)

    def _at(self, round_number: int) -> Algorithm:
        return self.build(self.seats_of(round_number))
