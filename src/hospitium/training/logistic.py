"""Logistic regression on pixels, in NumPy: the smallest real model, and the one tests use.

Softmax or sigmoid regression on the images as they are, with the plan's optimizer, schedule, class
weights and proximal term, without augmentation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hospitium.errors import SiteError
from hospitium.plan import Plan
from hospitium.randomness import rng
from hospitium.training.trainer import (
    TrainedParams,
    TrainingCases,
    batches,
    case_weights,
    is_finite,
    learning_rate,
    logit_offset,
    num_outputs,
)
from hospitium.types import Params

Arrays = dict[str, npt.NDArray[np.float64]]


class LogisticTrainer:
    """A linear model of a plan's classes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def first_params(self) -> Params:
        """Return small random weights and a zero bias."""
        pipeline, outputs = self._plan.imaging.pipeline, num_outputs(self._plan)
        size = pipeline.channels * math.prod(pipeline.size)
        draw = rng(self._plan.model.init_seed, "init", "logistic")
        weight = draw.normal(scale=1 / math.sqrt(size), size=(outputs, size))
        return {"weight": weight.astype(np.float32), "bias": np.zeros(outputs, np.float32)}

    def logits(self, params: Params, cases: TrainingCases) -> npt.NDArray[np.float32]:
        """Return ``(case, outputs)`` logits."""
        inputs = self._inputs(cases, np.arange(len(cases)))
        return (inputs @ params["weight"].T + params["bias"]).astype(np.float32)

    def train(
        self,
        params: Params,
        cases: TrainingCases,
        *,
        site_id: str,
        round_number: int,
        moments: Params | None = None,
    ) -> TrainedParams:
        """Take the plan's steps by SGD with Nesterov momentum or AdamW."""
        if len(cases) == 0:
            raise SiteError("there are no training cases")
        plan, training = self._plan, self._plan.training
        start: Arrays = {name: array.astype(np.float64) for name, array in params.items()}
        at = {name: array.copy() for name, array in start.items()}
        state = _Optimizer(plan, moments or {}, at)
        first_step = (round_number - 1) * training.steps
        chosen = batches(plan, num_cases=len(cases), site_id=site_id, round_number=round_number)
        offset = logit_offset(plan, cases.labels).astype(np.float64)
        losses = []
        with np.errstate(over="ignore", invalid="ignore"):  # looked at when all steps are done
            for step, index in enumerate(chosen, start=first_step):
                loss, gradient = self._gradient(at, cases, index, offset)
                for name in gradient:
                    gradient[name] += plan.algorithm.mu * (at[name] - start[name])
                state.apply(at, gradient, rate=learning_rate(plan, step))
                losses.append(loss)
            trained = {name: array.astype(np.float32) for name, array in at.items()}
        if not is_finite(sum(losses)):
            raise SiteError("training diverged: the loss is not finite")
        return TrainedParams(
            params=trained,
            num_steps=len(chosen),
            mean_loss=float(np.mean(losses)),
            moments=state.as_params(),
        )

    def _inputs(
        self, cases: TrainingCases, index: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        batch = cases.batch(index)
        images = batch.reshape(len(index), math.prod(batch.shape[1:])).astype(np.float64)
        if self._plan.imaging.normalise == "site":
            images = (images - cases.mean) / cases.sd
        if self._plan.imaging.normalise == "image":
            spread = images.std(axis=1, keepdims=True) + 1e-6
            images = (images - images.mean(axis=1, keepdims=True)) / spread
        return images

    def _gradient(
        self,
        at: Arrays,
        cases: TrainingCases,
        index: npt.NDArray[np.int64],
        offset: npt.NDArray[np.float64],
    ) -> tuple[float, Arrays]:
        """Return the weighted mean loss of a batch and its gradient."""
        inputs, labels = self._inputs(cases, index), cases.labels[index]
        weights = case_weights(self._plan, labels).astype(np.float64) / len(index)
        logits = inputs @ at["weight"].T + at["bias"] + offset
        if logits.shape[1] == 1:
            signed = np.where(labels == 1, logits[:, 0], -logits[:, 0])
            loss = float(weights @ np.logaddexp(0, -signed))
            error = (1 / (1 + np.exp(-logits[:, 0])) - labels)[:, None]
        else:
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            loss = float(-(weights @ log_p[np.arange(len(labels)), labels]))
            error = np.exp(log_p)
            error[np.arange(len(labels)), labels] -= 1
        error *= weights[:, None]
        return loss, {"weight": error.T @ inputs, "bias": error.sum(axis=0)}


class _Optimizer:
    """SGD with Nesterov momentum, or AdamW (Loshchilov 2019, arXiv:1711.05101), in float64."""

    def __init__(self, plan: Plan, moments: Params, at: Arrays) -> None:
        self._training = plan.training
        names = ("m", "v") if plan.training.optimizer == "adamw" else ("m",)
        self._state = {
            f"{kind}/{name}": moments[f"{kind}/{name}"].astype(np.float64)
            if f"{kind}/{name}" in moments
            else np.zeros_like(array)
            for kind in names
            for name, array in at.items()
        }
        self._step = int(moments["step"][0]) if "step" in moments else 0

    def apply(self, at: Arrays, gradient: Arrays, *, rate: float) -> None:
        """Move the params by one step, in place: they are this call's own copies."""
        training = self._training
        self._step += 1
        for name, g in gradient.items():
            m = self._state[f"m/{name}"]
            if training.optimizer == "adamw":
                v = self._state[f"v/{name}"]
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                m_hat, v_hat = m / (1 - 0.9**self._step), v / (1 - 0.999**self._step)
                if name == "weight":
                    at[name] *= 1 - rate * training.weight_decay
                at[name] -= rate * m_hat / (np.sqrt(v_hat) + 1e-8)
            else:
                g = g + training.weight_decay * (at[name] if name == "weight" else 0.0)
                m *= training.momentum
                m += g
                at[name] -= rate * (g + training.momentum * m)

    def as_params(self) -> Params:
        """Return the state as arrays that can be stored."""
        return {**self._state, "step": np.array([self._step], np.int64)}
