"""From the names in a plan to an algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hospitium.algorithms.fedadam import FedAdam
from hospitium.algorithms.fedavg import FedAvg
from hospitium.algorithms.weights import weights
from hospitium.plan import Plan
from hospitium.plan.schedule import rate_share
from hospitium.types import Algorithm, Params, Seat


def build(
    plan: Plan,
    *,
    run_id: str,
    seats: Sequence[Seat],
    first_params: Callable[[], Params],
    plugins: Mapping[str, Callable[[FedAvg], Algorithm]] | None = None,
    sum_lengths: Mapping[str, int] | None = None,
) -> Algorithm:
    """Return the algorithm that a checked plan names, for these seats.

    A plug-in's algorithm is built from the FedAvg of the same plan: it takes it, it does not
    subclass it.
    """
    section = plan.algorithm
    fedavg = FedAvg(
        run_id=run_id,
        plan_digest=plan.digest,
        first_params=first_params,
        seats=tuple(seats),
        weights=weights(seats, exponent=section.weight_exponent, max_share=section.max_share),
        max_norm=section.max_norm,
        clip_factor=section.clip_factor if section.clip == "adaptive" else None,
        coordinator_lr=section.coordinator_lr,
        ema=section.ema,
        sum_lengths=sum_lengths,
        is_scored=plan.is_scored,
    )
    if plugins and section.name in plugins:
        return plugins[section.name](fedavg)
    if section.name == "fedadam":
        return FedAdam(
            base=fedavg,
            rate=partial(_coordinator_rate, plan),
            beta1=section.beta1,
            beta2=section.beta2,
            decay=section.coordinator_decay,
        )
    return fedavg


def _coordinator_rate(plan: Plan, taken: int) -> float:
    """Return the size of the coordinator's step after so many."""
    section = plan.algorithm
    return section.coordinator_lr * rate_share(
        taken,
        total=plan.rounds.count,
        warmup=section.coordinator_warmup,
        schedule=section.coordinator_schedule,
    )
