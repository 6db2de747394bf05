import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from hospitium.errors import PlanError
from hospitium.plan.checking import MODEL_ARGS
from hospitium.plan.schema import ModelSection
from hospitium.training import trainer_for
from hospitium.training.models import BUILDERS, build_model
from hospitium.wire.blob import digest_of, header_of, num_values

MONAI = pytest.mark.ci
"""MONAI takes seconds to import: these run in `make test-ci`."""


def build(name, outputs=1, channels=1, plugins=None, **args):
    torch.manual_seed(7)
    return build_model(name, in_channels=channels, num_outputs=outputs, args=args, plugins=plugins)


def manifest_of(net):
    return tuple(
        (name, "F32", tuple(param.shape)) for name, param in sorted(net.named_parameters())
    )


def shape_of(net):
    """Return how many params a net has, and the start of the digest of their names and shapes."""
    manifest = manifest_of(net)
    return num_values(manifest), hashlib.sha256(header_of(manifest)).hexdigest()[:16]


SMALLER = {"widths": [8, 16], "convs_per_stage": 1}
PINNED = [
    # name, arguments, channels, outputs, (number of params, digest of their names and shapes)
    pytest.param("small_cnn", {}, 1, 1, (287_009, "05e97d7950fc0afe"), id="small_cnn"),
    pytest.param("small_cnn", SMALLER, 3, 5, (1_501, "77686e47ec6fe61d"), id="smaller_cnn"),
    pytest.param("resnet18", {}, 1, 1,
                 (11_171_649, "404c584017322a24"), id="resnet18", marks=MONAI),
    pytest.param("resnet18", {"stem": "small"}, 1, 1,
                 (11_169_089, "b1bc7899c834c65c"), id="resnet18_small", marks=MONAI),
    pytest.param("resnet50", {}, 1, 1,
                 (23_507_649, "db9aa853c93fd2c1"), id="resnet50", marks=MONAI),
    pytest.param("densenet121", {}, 3, 5,
                 (6_958_981, "442450989ea18601"), id="densenet121", marks=MONAI),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "channels", "outputs", "pinned"), PINNED)
def test_names_and_shapes_of_a_registered_model_never_change(name, args, channels, outputs, pinned):
    """A changed entry is a new name: params of an agreed plan must still fit."""
    net = build(name, outputs, channels, **args)
    assert shape_of(net) == pinned


@pytest.mark.parametrize(("name", "args", "channels", "outputs", "pinned"), PINNED)
def test_a_model_has_no_buffers_takes_its_images_and_gives_its_logits(
    name, args, channels, outputs, pinned
):
    net = build(name, outputs, channels, **args).eval()
    size = 32 if name == "densenet121" else 28
    with torch.inference_mode():
        logits = net(torch.rand(2, channels, size, size))
    assert logits.shape == (2, outputs) and torch.isfinite(logits).all()
    assert not list(net.buffers())
    assert not [m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def test_the_models_that_plans_may_name_are_those_there_are():
    assert set(BUILDERS) | {"logistic"} == set(MODEL_ARGS)


def test_small_cnn_halves_the_image_in_each_stage_and_works_down_to_8_pixels():
    net = build("small_cnn").eval()
    with torch.inference_mode():
        assert net.features(torch.rand(1, 1, 28, 28)).shape == (1, 128, 4, 4)
        assert net(torch.rand(1, 1, 8, 8)).shape == (1, 1)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"widths": [12]}, "multiples of 8"),
        ({"widths": [0]}, "multiples of 8"),
        ({"widths": [-8]}, "multiples of 8"),
        ({"widths": []}, "multiples of 8"),
        ({"widths": ["a"]}, "model.args of small_cnn"),
        ({"widths": 8}, "model.args of small_cnn"),
        ({"widths": [8.0]}, "model.args of small_cnn"),
        ({"dropout": 2}, "dropout"),
        ({"dropout": "much"}, "model.args of small_cnn"),
        ({"depth": 3}, "depth"),
        ({"in_channels": 3}, "in_channels"),
        ({"convs_per_stage": 1.5}, "model.args of small_cnn"),
        ({"convs_per_stage": 0}, "convs_per_stage"),
    ],
)
def test_an_argument_that_a_model_cannot_take_is_a_plan_error(args, expected):
    with pytest.raises(PlanError, match=expected):
        build("small_cnn", **args)


def test_batch_norm_is_refused_by_name_as_no_plan_has_a_rule_for_its_buffers():
    def with_batch_norm(in_channels, num_outputs):
        return torch.nn.Sequential(torch.nn.Conv2d(in_channels, 4, 3), torch.nn.BatchNorm2d(4))

    with pytest.raises(PlanError, match="use group or instance norm"):
        build("mine", plugins={"mine": with_batch_norm})


@MONAI
def test_a_stem_that_does_not_exist_is_told_which_do():
    with pytest.raises(PlanError, match="expected 'standard' or 'small'"):
        build("resnet18", stem="tiny")


@MONAI
@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_net_of_monai_is_trained_as_any_other(plan_for, cases_for, name):
    args = {"stem": "small"} if name == "resnet18" else {}
    plan = plan_for(name, size=32, steps=1, normalise="image")
    plan = replace(plan, model=ModelSection(name=name, args=args))
    trainer = trainer_for(plan, device="cpu")
    first = trainer.first_params()
    trained = trainer.train(first, cases_for(8, size=32), site_id="oslo", round_number=1)
    assert all(np.isfinite(array).all() for array in trained.params.values())
    assert digest_of(trained.params) != digest_of(first)
