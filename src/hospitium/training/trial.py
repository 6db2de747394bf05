"""One real training step of a plan's model at a site: does it work, and how long does it take?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hospitium.errors import HospitiumError
from hospitium.plan import Plan
from hospitium.training.trainer import Trainer, TrainingCases, trainer_for
from hospitium.types import Params


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a training step went.

    Attributes:
        device: What it ran on.
        step_s: Seconds of one step, after a first one that is not counted; None where it failed.
        problem: Why it failed, in a sentence; empty where it did not.
        peak_bytes: Memory of the GPU that it took; None on a CPU.
    """

    device: str
    step_s: float | None = None
    problem: str = ""
    peak_bytes: int | None = None


def try_step(plan: Plan, cases: TrainingCases, *, device: str = "auto") -> Trial:
    """Take the plan's step on real cases, twice, and time the second; whatever is wrong is told.

    Nothing is kept of it: neither params nor optimizer state.

    Args:
        plan: Its model, batch size and optimizer are used as they are.
        cases: At least one; the batch is as large as they are, or as the plan says.
        device: A torch device, or ``auto``.
    """
    one_step = replace(plan, training=replace(plan.training, steps=1, sampling_rate=0.0))
    named, peak = _device(plan, device)
    try:
        trainer = trainer_for(one_step, device=device)
        params = trainer.first_params()
        _step_s(trainer, params, cases, round_number=1)
        step_s = _step_s(trainer, params, cases, round_number=2)
    except (HospitiumError, RuntimeError, ValueError, TypeError, MemoryError, ImportError) as error:
        return Trial(device=named, problem=f"{type(error).__name__}: {error}".split("\n")[0][:300])
    return Trial(device=named, step_s=step_s, peak_bytes=peak())


def _step_s(trainer: Trainer, params: Params, cases: TrainingCases, *, round_number: int) -> float:
    """Return how long one step took."""
    started = time.perf_counter()
    trainer.train(params, cases, site_id="trial", round_number=round_number)
    return time.perf_counter() - started


def _device(plan: Plan, device: str) -> tuple[str, Callable[[], int | None]]:
    """Return what a plan's model would be trained on, and how to ask for the memory it took."""
    if plan.model.name == "logistic":
        return "cpu", lambda: None
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return "cpu", lambda: None
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.get_device_name(0), torch.cuda.max_memory_allocated
