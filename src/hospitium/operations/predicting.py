"""What a model says about cases, as probabilities; test labels are opened here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hospitium.evaluation.comparison import TestSet
from hospitium.imaging.cache import read_cases
from hospitium.imaging.cases import Split
from hospitium.plan import Plan
from hospitium.site.agent import training_cases
from hospitium.training import Trainer
from hospitium.types import Params


@dataclass(frozen=True, kw_only=True)
class CaseFolder:
    """Prepared cases, and where the statistics of training images for them come from."""

    cases: Path
    statistics: Path


def labels_of(folder: CaseFolder, split: Split) -> TestSet:
    """Return the labels and subjects of one split."""
    cases = read_cases(folder.cases).split(split)
    return TestSet(labels=cases.labels, subjects=cases.subjects)


def predict(
    plan: Plan, trainer: Trainer, params: Params, folder: CaseFolder, split: Split = "test"
) -> npt.NDArray[np.float64]:
    """Return ``(case, class)`` probabilities of one split of the cases in a folder."""
    cases = training_cases(folder.cases, split, statistics_from=folder.statistics)
    logits = trainer.logits(params, cases).astype(np.float64)
    if len(plan.task.classes) == 2:
        positive = 1 / (1 + np.exp(-np.clip(logits[:, 0], -700, 700)))
        return np.stack([1 - positive, positive], axis=1)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
