"""FedAdam (Reddi 2021, arXiv:2003.00295): the coordinator steps by AdamW along the mean change.

The sites' mean change takes the place of the gradient, with the sign turned. Where a site takes
one step of plain SGD, the mean change is the gradient of one large batch over all sites, and each
round is the AdamW step (Loshchilov 2019, arXiv:1711.05101) of pooled training: only the drawing of
batches differs, as long as all sites answer, weights go by cases and no change is clipped. That is
as good as pooled training, at the price of a round for each step. The moments stay at the
coordinator; a site keeps nothing between rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from hospitium.algorithms.fedavg import FedAvg
from hospitium.algorithms.weighted_sum import WeightedSum
from hospitium.types import Array, Params, Result, State, Task

_MEAN, _SQUARE = "exp_avg", "exp_avg_sq"
_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class FedAdam:
    """AdamW along the sites' mean change, as a value.

    Attributes:
        base: Seats, weights, guard and running average, as in FedAvg.
        rate: The step's size, by the number of steps taken before it.
        beta1: Memory of the mean change.
        beta2: Memory of its square.
        decay: Weight decay of params with more than one axis, in units of the step's size.
    """

    base: FedAvg
    rate: Callable[[int], float]
    beta1: float = 0.9
    beta2: float = 0.999
    decay: float = 0.0

    def init(self) -> State:
        """Return the first params, with moments of zero."""
        state = self.base.init()
        zeros = {name: np.zeros_like(array) for name, array in state.params.items()}
        return State(
            params=state.params,
            slots={**state.slots, _MEAN: zeros, _SQUARE: zeros},
            memory={**state.memory, "steps": 0},
        )

    def task(self, state: State, *, round_number: int) -> Task:
        """Ask as FedAvg does; the moments stay here."""
        return self.base.task(state, round_number=round_number)

    def aggregate(self, task: Task) -> WeightedSum:
        """Return an empty exact sum for this round."""
        return self.base.aggregate(task)

    def step(self, state: State, result: Result) -> State:
        """Take one AdamW step; elementwise float32, one operation at a time."""
        taken = cast(int, state.memory["steps"])
        params: dict[str, Array] = {}
        means: dict[str, Array] = {}
        squares: dict[str, Array] = {}
        for name, array in state.params.items():
            gradient = -result.delta[name]
            means[name] = _blend(state.slots[_MEAN][name], gradient, self.beta1)
            squares[name] = _blend(state.slots[_SQUARE][name], gradient * gradient, self.beta2)
            params[name] = self._moved(array, means[name], squares[name], taken)
        slots: dict[str, Params] = {**state.slots, _MEAN: means, _SQUARE: squares}
        memory = {**state.memory, "steps": taken + 1}
        return self.base.moved(
            State(params=state.params, slots=slots, memory=memory), params, result
        )

    def _moved(self, array: Array, mean: Array, square: Array, taken: int) -> Array:
        """Return one param after the step, with the moments' bias taken out."""
        rate = self.rate(taken)
        size = np.float32(rate / (1 - self.beta1 ** (taken + 1)))
        unbias = np.float32(1 / np.sqrt(1 - self.beta2 ** (taken + 1)))
        shrunk = array * np.float32(1 - rate * self.decay) if array.ndim > 1 else array
        moved: Array = shrunk - size * (mean / (np.sqrt(square) * unbias + np.float32(_EPS)))
        return moved


def _blend(before: Array, value: Array, beta: float) -> Array:
    return np.float32(beta) * before + np.float32(1 - beta) * value
