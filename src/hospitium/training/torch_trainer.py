"""Training a torch model at a site: the plan's steps, with the same bits every time on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hospitium.errors import SiteError
from hospitium.plan import Plan
from hospitium.randomness import seed_of
from hospitium.training.augment import AUGMENTATIONS, augment
from hospitium.training.losses import LOSSES, Loss
from hospitium.training.models import build_model
from hospitium.training.plugins import Plugin
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

_SCORE_BATCH = 256
_LEAST_SPREAD = 0.02
"""Added to an image's standard deviation, so that an empty image does not become pure noise."""


class TorchTrainer:
    """A torch model of the registry, or of a plug-in.

    Args:
        plan: Names the model, the loss and all that training needs.
        plugin: What a researcher's file adds.
        device: ``"auto"`` takes a GPU where there is one; else a torch device.
    """

    def __init__(self, plan: Plan, *, plugin: Plugin, device: str = "auto") -> None:
        self._plan = plan
        self._plugin = plugin
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(chosen if device == "auto" else device)
        self._model = self._build().to(self._device)
        self._loss = self._loss_of(plan, plugin)

    def first_params(self) -> Params:
        """Return the params that the model draws on CPU from ``init_seed`` when it is built."""
        return _params_of(self._build())

    def logits(self, params: Params, cases: TrainingCases) -> npt.NDArray[np.float32]:
        """Return ``(case, outputs)`` logits, in evaluation mode and full precision."""
        self._load(params)
        self._model.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(cases), _SCORE_BATCH):
                images = self._images(cases, slice(start, start + _SCORE_BATCH))
                parts.append(self._model(self._normalise(images, cases)).float().cpu().numpy())
        if not parts:
            return np.zeros((0, num_outputs(self._plan)), np.float32)
        return np.concatenate(parts)

    def train(
        self,
        params: Params,
        cases: TrainingCases,
        *,
        site_id: str,
        round_number: int,
        moments: Params | None = None,
    ) -> TrainedParams:
        """Take the plan's steps; FedProx's pull is added to the gradient."""
        if len(cases) == 0:
            raise SiteError("there are no training cases")
        plan = self._plan
        seed = seed_of(plan.seed, "augment", site_id, round_number)
        generator = torch.Generator().manual_seed(seed)
        self._load(params)
        self._model.train()
        anchor = [p.detach().clone() for p in self._model.parameters()] if plan.algorithm.mu else []
        optimizer = self._optimizer()
        self._load_moments(optimizer, moments or {})
        chosen = batches(plan, num_cases=len(cases), site_id=site_id, round_number=round_number)
        offset = torch.from_numpy(logit_offset(plan, cases.labels)).to(self._device)
        total = torch.zeros((), device=self._device)
        with _seeded(seed):
            for step, index in enumerate(chosen, start=(round_number - 1) * plan.training.steps):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(plan, step)
                total += self._step(optimizer, cases, index, offset, anchor, generator)
        mean_loss = float(total) / len(chosen)
        if not is_finite(mean_loss):
            raise SiteError("training diverged: the loss is not finite")
        return TrainedParams(
            params=_params_of(self._model),
            num_steps=len(chosen),
            mean_loss=mean_loss,
            moments=self._moments(optimizer) if plan.training.moments == "keep" else {},
        )

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        cases: TrainingCases,
        index: npt.NDArray[np.int64],
        offset: torch.Tensor,
        anchor: list[torch.Tensor],
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Take one optimizer step and return the loss, without waiting for the device."""
        how = AUGMENTATIONS[self._plan.training.augment]
        images = self._images(cases, index)
        if how is not None:
            images = augment(images, how, generator=generator)
        labels = cases.labels[index]
        weights = torch.from_numpy(case_weights(self._plan, labels)).to(self._device)
        optimizer.zero_grad(set_to_none=True)
        with self._precision():
            logits = self._model(self._normalise(images, cases)).float()
        loss = self._loss(logits + offset, torch.from_numpy(labels).to(self._device), weights)
        loss.backward()  # type: ignore[no-untyped-call]
        for param, start in zip(self._model.parameters(), anchor, strict=bool(anchor)):
            if param.grad is not None:
                param.grad.add_(param.detach() - start, alpha=self._plan.algorithm.mu)
        optimizer.step()
        return loss.detach()

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        """Bfloat16 on a GPU where the plan allows it; elsewhere full precision."""
        if self._plan.training.mixed_precision and self._device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _images(self, cases: TrainingCases, where: npt.NDArray[np.int64] | slice) -> torch.Tensor:
        return torch.from_numpy(cases.batch(where)).to(self._device)

    def _normalise(self, images: torch.Tensor, cases: TrainingCases) -> torch.Tensor:
        """Bring images to what the model sees, as the plan says."""
        how = self._plan.imaging.normalise
        if how == "image":
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            spread = images.std(dim=(1, 2, 3), keepdim=True, correction=0)
            return (images - mean) / (spread + _LEAST_SPREAD)
        if how == "site":
            return (images - cases.mean) / cases.sd
        return images

    def _build(self) -> nn.Module:
        plan = self._plan
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(plan.model.init_seed, "init"))
            return build_model(
                plan.model.name,
                in_channels=plan.imaging.pipeline.channels,
                num_outputs=num_outputs(plan),
                args=plan.model.args,
                plugins=self._plugin.models,
            )

    def _loss_of(self, plan: Plan, plugin: Plugin) -> Loss:
        if plan.training.loss in plugin.losses:
            loss: Loss = plugin.losses[plan.training.loss]
            return loss
        return LOSSES[plan.training.loss](plan.training.label_smoothing)

    def _load(self, params: Params) -> None:
        with torch.no_grad():
            for name, param in self._model.named_parameters():
                param.copy_(torch.from_numpy(np.array(params[name])))

    def _optimizer(self) -> torch.optim.Optimizer:
        """Return the plan's optimizer; biases and norms (one axis) are not decayed."""
        training, params = self._plan.training, list(self._model.parameters())
        groups = [
            {
                "params": [param for param in params if param.ndim > 1],
                "weight_decay": training.weight_decay,
            },
            {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
        ]
        if training.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=training.lr, fused=True)
        return torch.optim.SGD(
            groups,
            lr=training.lr,
            momentum=training.momentum,
            nesterov=training.momentum > 0,
            fused=True,
        )

    def _moments(self, optimizer: torch.optim.Optimizer) -> Params:
        """Return the optimizer's state under names that say which param it belongs to."""
        return {
            f"{kind}/{name}": np.atleast_1d(value.detach().to("cpu", copy=True).numpy())
            for name, param in self._model.named_parameters()
            for kind, value in optimizer.state[param].items()
            if value is not None
        }

    def _load_moments(self, optimizer: torch.optim.Optimizer, moments: Params) -> None:
        """Give the optimizer the state of an earlier round, as far as there is one."""
        kinds = {key.split("/", 1)[0] for key in moments}
        for name, param in self._model.named_parameters():
            for kind in sorted(kind for kind in kinds if f"{kind}/{name}" in moments):
                stored = torch.from_numpy(np.array(moments[f"{kind}/{name}"]))
                if kind == "step":
                    optimizer.state[param][kind] = stored.reshape(()).to(self._device)
                else:
                    optimizer.state[param][kind] = stored.reshape(param.shape).to(self._device)


def _params_of(model: nn.Module) -> Params:
    """Return copies of a model's params as float32 arrays."""
    return {
        name: param.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, param in model.named_parameters()
    }


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw what the model itself draws (dropout) from this seed, and leave no trace."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
