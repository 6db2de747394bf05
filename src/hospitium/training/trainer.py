"""What a site can do with a model: draw its first params, score cases, train for some steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hospitium.plan import Plan
from hospitium.plan.schedule import rate_share
from hospitium.randomness import rng
from hospitium.training.plugins import Plugin
from hospitium.types import Params

_LEAST_BATCH = 8
_WITHOUT_TORCH = ("logistic",)


@dataclass(frozen=True, kw_only=True)
class TrainingCases:
    """What a trainer sees of a site's cases.

    Attributes:
        images: ``(any, channel, row, column)`` float32 in [0, 1]; may be a mapped file.
        rows: ``(case,)`` int64: where in ``images`` each case is.
        labels: ``(case,)`` int64.
        mean: Mean of the site's own training images; used where the plan normalises by site.
        sd: Their standard deviation.
    """

    images: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    mean: float = 0.5
    sd: float = 0.25

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float32]:
        """Return copies of the images of these cases."""
        return self.images[self.rows[index]]


@dataclass(frozen=True, kw_only=True)
class TrainedParams:
    """What local training comes to; ``moments`` is optimizer state and never leaves the site."""

    params: Params
    num_steps: int
    mean_loss: float
    moments: Params = field(default_factory=dict)


class Trainer(Protocol):
    """A model of the plan, ready to be used at a site."""

    def first_params(self) -> Params:
        """Return the params drawn from the plan's seed: float32, the same on every machine."""

    def logits(self, params: Params, cases: TrainingCases) -> npt.NDArray[np.float32]:
        """Return ``(case, 1)`` logits of the positive class for two classes, else ``(case, K)``."""

    def train(
        self,
        params: Params,
        cases: TrainingCases,
        *,
        site_id: str,
        round_number: int,
        moments: Params | None = None,
    ) -> TrainedParams:
        """Take the plan's steps from these params; the same call gives the same bits on a CPU.

        Raises:
            SiteError: The loss is not finite, or there are no cases.
        """


def trainer_for(plan: Plan, *, plugin: Plugin | None = None, device: str = "auto") -> Trainer:
    """Return the trainer of a plan's model; only models that need torch import it."""
    if plan.model.name in _WITHOUT_TORCH:
        from hospitium.training.logistic import LogisticTrainer

        return LogisticTrainer(plan)
    from hospitium.training.torch_trainer import TorchTrainer

    return TorchTrainer(plan, plugin=plugin or Plugin(), device=device)


def can_build(plan: Plan) -> bool:
    """Whether a plan's model can be built here: a coordinating centre may be without torch."""
    return plan.model.name in _WITHOUT_TORCH or find_spec("torch") is not None


def num_outputs(plan: Plan) -> int:
    """Return the width of the head: one logit for two classes, else one for each class."""
    return 1 if len(plan.task.classes) == 2 else len(plan.task.classes)


def batches(
    plan: Plan, *, num_cases: int, site_id: str, round_number: int
) -> list[npt.NDArray[np.int64]]:
    """Return the indices of each step's batch: passes over all cases, each newly shuffled.

    A site with fewer cases than a batch uses all of them in each step.
    """
    draw = rng(plan.seed, "batches", site_id, round_number)
    size = batch_size(plan, num_cases=num_cases)
    order = draw.permutation(num_cases)
    chosen = []
    for _ in range(plan.training.steps):
        if len(order) < size:
            order = np.concatenate([order, draw.permutation(num_cases)])
        chosen.append(order[:size].astype(np.int64))
        order = order[size:]
    return chosen


def batch_size(plan: Plan, *, num_cases: int) -> int:
    """Return how many cases a site draws per step.

    With a sampling rate, each site draws the same share of its own cases, at least 8: all cases of
    the federation are then seen equally often, as in pooled training, while every site takes the
    same number of steps.
    """
    training = plan.training
    size = training.batch_size
    if training.sampling_rate > 0:
        size = max(_LEAST_BATCH, round(training.sampling_rate * num_cases))
    return min(size, num_cases)


def learning_rate(plan: Plan, step: int) -> float:
    """Return the rate of a step counted from 0 over the whole run: warm-up, then the schedule."""
    training = plan.training
    share = rate_share(
        step, total=plan.total_steps, warmup=training.warmup, schedule=training.schedule
    )
    return training.lr * share


def case_weights(plan: Plan, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the weight of each case in the loss: its class's weight of the plan, or one."""
    weights = plan.training.class_weights
    if not weights:
        return np.ones(len(labels), np.float32)
    return np.asarray(weights, np.float32)[labels]


def logit_offset(plan: Plan, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return what is added to the logits in the loss: log-odds of the site's own label shares.

    "Logit adjustment" (Menon 2021, arXiv:2007.07314): trained with the prior of its own cases
    added, a model learns scores without a prior, so that sites of unlike label shares pull it the
    same way. Shares are smoothed by half a case each. One number for two classes, else one for
    each class; zeros where the plan does not ask for it.
    """
    num_classes = len(plan.task.classes)
    counts = np.bincount(labels, minlength=num_classes) + 0.5
    if plan.training.class_weighting != "logit_adjusted":
        counts = np.ones(num_classes)
    log_shares = np.log(counts / counts.sum())
    if num_classes == 2:
        return np.array([log_shares[1] - log_shares[0]], np.float32)
    return np.asarray(log_shares, np.float32)


def balanced_weights(class_counts: Mapping[str, int]) -> tuple[float, ...]:
    """Return class weights that make every class count the same, with mean 1 over the cases.

    Example:
        >>> balanced_weights({"normal": 25, "pneumonia": 75})
        (2.0, 0.666667)
    """
    total, num_classes = sum(class_counts.values()), len(class_counts)
    return tuple(
        round(total / (num_classes * count), 6) if count else 0.0 for count in class_counts.values()
    )


def sampling_rate(batch_size: int, *, num_sites: int, num_cases: int) -> float:
    """Return the share of its cases that each site draws per step, in proportional batches.

    At this rate the batches of all sites together are as large as ``batch_size`` at each of them.

    Example:
        >>> sampling_rate(32, num_sites=3, num_cases=4800)
        0.02
    """
    return min(1.0, round(batch_size * num_sites / num_cases, 9))


def is_finite(value: Any) -> bool:
    """Whether a loss is a number that training may go on with."""
    return bool(np.isfinite(value))
