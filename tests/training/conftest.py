"""Small plans and cases that a trainer learns from in milliseconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hospitium.plan import Plan
from hospitium.plan.schema import (
    ImagingSection,
    ModelSection,
    PipelineSection,
    RoundsSection,
    TaskSection,
)
from hospitium.training import TrainingCases

SMALL = {"widths": [8, 16], "convs_per_stage": 1, "dropout": 0.2}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Train in one thread, as a worker does: further ones would wait for each other here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def plan_for():
    """Return a function that makes a plan for a model, with these training values."""

    def make(
        model="logistic", *, classes=("no", "yes"), rounds=3, size=8, normalise="none", **values
    ):
        return Plan(
            task=TaskSection(classes=classes),
            imaging=ImagingSection(
                normalise=normalise, pipeline=PipelineSection(size=(size, size))
            ),
            model=ModelSection(name=model, args=SMALL if model == "small_cnn" else {}),
            training=replace(
                Plan().training, **{"steps": 4, "batch_size": 8, "augment": "none", **values}
            ),
            rounds=RoundsSection(count=rounds),
        )

    return make


@pytest.fixture
def cases_for():
    """Return a function that makes cases whose class shows in the brightness of one corner."""

    def make(count=20, *, num_classes=2, seed=7, size=8):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, num_classes, count)
        images = draw.uniform(0, 0.7, (count, 1, size, size))
        images[:, :, :3, :3] += 0.3 * labels[:, None, None, None] / (num_classes - 1)
        order = draw.permutation(count)
        return TrainingCases(
            images=images[order].astype(np.float32), rows=np.argsort(order), labels=labels
        )

    return make
