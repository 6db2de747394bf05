"""FedAvg (McMahan 2017, arXiv:1602.05629) and, as the plan's mu, FedProx (arXiv:1812.06127).

``x+ = x + lr * sum(p_k * delta_k)``; FedProx is the same with a proximal term, which the sites'
trainer takes from the plan, so it is not another class. Each site's change is clipped to a bound
that keeps weights (Sun 2019, arXiv:1911.07963): 1.5 times the median norm of the last five rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from hospitium import buffers
from hospitium.algorithms.norm_bound import NORM_SUM, ROUNDS_REMEMBERED, next_bound
from hospitium.algorithms.weighted_sum import WeightedSum
from hospitium.types import Params, Result, Seat, State, Task
from hospitium.wire.blob import digest_of


@dataclass(frozen=True, kw_only=True)
class FedAvg:
    """The weighted mean of the sites' changes, as a value.

    Attributes:
        run_id: The run that tasks belong to.
        plan_digest: The plan that tasks belong to.
        first_params: Returns the params of round 0.
        seats: The sites of the run.
        weights: Integer weight of each site.
        max_norm: The bound of round 1.
        clip_factor: Later bounds are this times the median norm; None keeps ``max_norm``.
        coordinator_lr: Step along the mean change.
        ema: Share of the old average in the running average of params; 0 keeps none.
        sum_lengths: Names and lengths of the metric sums that a site measures; None takes any.
        is_scored: Whether the sites measure them in a round, by its number.
    """

    run_id: str
    plan_digest: str
    first_params: Callable[[], Params]
    seats: Sequence[Seat]
    weights: Mapping[str, int]
    max_norm: float = 10.0
    clip_factor: float | None = 1.5
    coordinator_lr: float = 1.0
    ema: float = 0.0
    sum_lengths: Mapping[str, int] | None = None
    is_scored: Callable[[int], bool] = lambda round_number: True

    def init(self) -> State:
        """Return the first params, with no norm seen yet."""
        params = self.first_params()
        slots = {"ema": params} if self.ema else {}
        return State(params=params, slots=slots, memory={"norms": []})

    def task(self, state: State, *, round_number: int) -> Task:
        """Ask every site to train from the current params, within the bound of this round."""
        histograms = cast(list[list[int]], state.memory["norms"])
        bound = self.max_norm
        if self.clip_factor is not None:
            bound = next_bound(
                [_dense(histogram) for histogram in histograms],
                factor=self.clip_factor,
                fallback=self.max_norm,
            )
        return Task(
            run_id=self.run_id,
            round_number=round_number,
            plan_digest=self.plan_digest,
            params=state.params,
            base_digest=state.params_digest or digest_of(state.params),
            max_norm=bound,
        )

    def aggregate(self, task: Task) -> WeightedSum:
        """Return an empty exact sum for this round."""
        seats = {seat.site_id: seat for seat in self.seats}
        measured = task.purpose == "score" or self.is_scored(task.round_number)
        lengths = None if self.sum_lengths is None else self.sum_lengths if measured else {}
        return WeightedSum(task, seats=seats, weights=self.weights, sum_lengths=lengths)

    def step(self, state: State, result: Result) -> State:
        """Move the params along the mean change; elementwise float32, one operation at a time."""
        rate = np.float32(self.coordinator_lr)
        params = buffers.lend_like(state.params)
        for name, array in state.params.items():
            change = result.delta[name]
            np.add(array, rate * change if rate != 1 else change, out=params[name])
        return self.moved(state, params, result)

    def moved(self, state: State, params: Params, result: Result) -> State:
        """Return the state with these params, its running average and norms brought up to date."""
        slots = dict(state.slots)
        if self.ema:
            keep, take = np.float32(self.ema), np.float32(1 - self.ema)
            slots["ema"] = {
                name: keep * array + take * params[name] for name, array in slots["ema"].items()
            }
        norms = cast(list[list[int]], state.memory["norms"])
        if NORM_SUM in result.sums:
            norms = [*norms, _sparse(result.sums[NORM_SUM])][-ROUNDS_REMEMBERED:]
        return State(params=params, slots=slots, memory={**state.memory, "norms": norms})


def _sparse(histogram: Sequence[int]) -> list[int]:
    """Return ``[length, bin, count, bin, count, ...]``: a histogram of a few norms is short."""
    pairs = [(index, count) for index, count in enumerate(histogram) if count]
    return [len(histogram), *(number for pair in pairs for number in pair)]


def _dense(sparse: Sequence[int]) -> list[int]:
    """Return the histogram that `_sparse` was made from."""
    counts = [0] * sparse[0]
    for index, count in zip(sparse[1::2], sparse[2::2], strict=True):
        counts[index] = count
    return counts
