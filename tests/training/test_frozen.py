from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PipelineSection
from hospitium.training import TrainingCases, trainer_for
from hospitium.training.plugins import Plugin


def half_frozen(in_channels: int, num_outputs: int) -> nn.Module:
    backbone, head = nn.Linear(in_channels * 64, 8), nn.Linear(8, num_outputs)
    backbone.requires_grad_(False)
    return nn.Sequential(nn.Flatten(), backbone, nn.Tanh(), head)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_model_with_frozen_params_goes_on_with_its_moments_in_the_next_round(optimizer):
    plan = Plan()
    plan = replace(
        plan,
        imaging=ImagingSection(pipeline=PipelineSection(size=(8, 8))),
        model=replace(plan.model, name="half_frozen"),
        training=replace(plan.training, steps=2, augment="none", optimizer=optimizer, lr=0.01),
    )
    trainer = trainer_for(plan, plugin=Plugin(models={"half_frozen": half_frozen}), device="cpu")
    draw = np.random.default_rng(7)
    images = draw.random((12, 1, 8, 8), dtype=np.float32)
    cases = TrainingCases(images=images, rows=np.arange(12), labels=np.arange(12) % 2)
    first = trainer.train(trainer.first_params(), cases, site_id="a", round_number=1)
    second = trainer.train(first.params, cases, site_id="a", round_number=2, moments=first.moments)
    np.testing.assert_array_equal(second.params["1.weight"], first.params["1.weight"])
    assert np.abs(second.params["3.weight"] - first.params["3.weight"]).max() > 0
