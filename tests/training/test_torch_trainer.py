from dataclasses import replace

import numpy as np
import pytest
import torch

from hospitium.errors import SiteError
from hospitium.plan.schema import AlgorithmSection
from hospitium.training import trainer_for
from hospitium.training.plugins import Plugin
from hospitium.wire.blob import digest_of


def trainer_of(plan, plugin=None):
    return trainer_for(plan, plugin=plugin, device="cpu")


def train(plan, cases, *, params=None, plugin=None, **values):
    trainer = trainer_of(plan, plugin)
    given = {"site_id": "oslo", "round_number": 1, **values}
    return trainer.train(params or trainer.first_params(), cases, **given)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_task_twice_gives_the_same_bits_dropout_and_augmentation_included(
    plan_for, cases_for, optimizer
):
    plan = plan_for("small_cnn", optimizer=optimizer, augment="radiograph")
    one, two = train(plan, cases_for()), train(plan, cases_for())
    assert digest_of(one.params) == digest_of(two.params)
    assert digest_of(one.moments) == digest_of(two.moments)
    assert one.mean_loss == two.mean_loss


def test_a_trainer_that_was_used_before_gives_the_same_bits_as_a_new_one(plan_for, cases_for):
    """A worker keeps its trainer over sites and rounds: nothing of the last task may be left."""
    plan = plan_for("small_cnn", augment="radiograph")
    trainer = trainer_of(plan)
    first, task = trainer.first_params(), {"site_id": "oslo", "round_number": 1}
    trainer.train(first, cases_for(seed=9), site_id="bergen", round_number=7)
    trainer.logits(first, cases_for())
    used = trainer.train(first, cases_for(), **task)
    assert digest_of(used.params) == digest_of(train(plan, cases_for()).params)


def test_sites_and_rounds_draw_other_batches_and_other_augmentation(plan_for, cases_for):
    plan = plan_for(
        "small_cnn", augment="radiograph", batch_size=64, schedule="constant", warmup=0.0
    )
    found = {
        digest_of(train(plan, cases_for(), site_id=name, round_number=number).params)
        for name in ("oslo", "bergen")
        for number in (1, 2)
    }
    assert len(found) == 4


def test_training_leaves_no_trace_in_torchs_own_generator_or_in_what_came_in(plan_for, cases_for):
    plan, cases = plan_for("small_cnn", augment="radiograph"), cases_for()
    first, images = trainer_of(plan).first_params(), cases.images.copy()
    digest, state = digest_of(first), torch.random.get_rng_state()
    train(plan, cases, params=first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert digest_of(first) == digest and np.array_equal(cases.images, images)


def test_params_that_are_mapped_read_only_can_be_trained_from(plan_for, cases_for):
    plan = plan_for("small_cnn")
    first = {name: array.copy() for name, array in trainer_of(plan).first_params().items()}
    for array in first.values():
        array.flags.writeable = False
    assert digest_of(train(plan, cases_for(), params=first).params) != digest_of(first)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_kept_moments_go_on_where_the_last_round_ended(plan_for, cases_for, optimizer):
    """Two rounds of 3 steps are one of 6 where the batch is all cases and dropout draws nothing."""
    values = {"optimizer": optimizer, "batch_size": 64, "moments": "keep", "lr": 0.01}
    two = plan_for("small_cnn", rounds=2, steps=3, **values)
    two = replace(two, model=replace(two.model, args={**two.model.args, "dropout": 0.0}))
    one = replace(two, rounds=replace(two.rounds, count=1))
    one = replace(one, training=replace(one.training, steps=6))
    half = train(two, cases_for())
    whole = train(two, cases_for(), params=half.params, moments=half.moments, round_number=2).params
    forgot = train(two, cases_for(), params=half.params, round_number=2).params
    for name, array in train(one, cases_for()).params.items():
        np.testing.assert_allclose(whole[name], array, atol=2e-6)
    assert max(np.abs(forgot[name] - whole[name]).max() for name in whole) > 2e-4


def test_moments_stay_out_where_the_plan_resets_them(plan_for, cases_for):
    assert train(plan_for("small_cnn", moments="reset"), cases_for()).moments == {}
    kept = train(plan_for("small_cnn", moments="keep", optimizer="adamw"), cases_for()).moments
    assert {name.split("/")[0] for name in kept} == {"step", "exp_avg", "exp_avg_sq"}
    plain = plan_for("small_cnn", moments="keep", optimizer="sgd", momentum=0.0)
    assert train(plain, cases_for()).moments == {}


def test_fedprox_adds_its_pull_to_the_gradient(plan_for, cases_for):
    """With plain SGD, full batches and two steps: y2 = y1 - rate * (g(y1) + mu * (y1 - x))."""
    values = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0}
    plan = plan_for("small_cnn", steps=2, batch_size=64, schedule="constant", lr=0.1, **values)
    plan = replace(plan, model=replace(plan.model, args={**plan.model.args, "dropout": 0.0}))
    prox = replace(plan, algorithm=AlgorithmSection(name="fedprox", mu=0.5))
    one = replace(plan, training=replace(plan.training, steps=1))
    first, cases = trainer_of(plan).first_params(), cases_for()
    y1, y2 = (train(p, cases, params=first).params for p in (one, plan))
    pulled = train(prox, cases, params=first).params
    for name in first:
        expected = y2[name] - 0.1 * 0.5 * (y1[name] - first[name])
        np.testing.assert_allclose(pulled[name], expected, atol=1e-6)


def test_a_loss_that_is_not_finite_is_a_site_error(plan_for, cases_for):
    cases = cases_for()
    cases.images[3] = np.nan
    with pytest.raises(SiteError, match="training diverged: the loss is not finite"):
        train(plan_for("small_cnn", steps=6), cases)


def test_no_training_cases_are_a_site_error_and_no_cases_to_score_are_no_logits(
    plan_for, cases_for
):
    plan = plan_for("small_cnn", classes=("a", "b", "c"))
    with pytest.raises(SiteError, match="no training cases"):
        train(plan, cases_for(0))
    trainer = trainer_of(plan)
    assert trainer.logits(trainer.first_params(), cases_for(0)).shape == (0, 3)


def test_scores_do_not_depend_on_how_cases_are_cut_into_batches(plan_for, cases_for):
    trainer = trainer_of(plan_for("small_cnn", normalise="image"))
    params, cases = trainer.first_params(), cases_for(300)
    whole = trainer.logits(params, cases)
    part = trainer.logits(params, replace(cases, rows=cases.rows[:40], labels=cases.labels[:40]))
    assert whole.shape == (300, 1) and whole.dtype == np.float32
    np.testing.assert_allclose(whole[:40], part, atol=1e-6)


def test_first_params_depend_on_the_init_seed_alone(plan_for):
    plan = plan_for("small_cnn")
    first = digest_of(trainer_of(plan).first_params())
    torch.manual_seed(12345)
    assert digest_of(trainer_of(replace(plan, seed=99)).first_params()) == first
    other = replace(plan, model=replace(plan.model, init_seed=8))
    assert digest_of(trainer_of(other).first_params()) != first


def test_it_learns_three_classes_with_label_smoothing_and_focal_loss(plan_for, cases_for):
    plan = plan_for(
        "small_cnn", classes=("a", "b", "c"), steps=60, lr=0.02, loss="focal", label_smoothing=0.05,
        normalise="image",
    )  # fmt: skip
    cases = cases_for(60, num_classes=3)
    trainer = trainer_of(plan)
    scores = trainer.logits(train(plan, cases).params, cases)
    assert (scores.argmax(1) == cases.labels).mean() > 0.7


def test_a_model_and_a_loss_of_a_plug_in_are_trained(plan_for, cases_for):
    plugin = Plugin()
    plugin.model("line", lambda in_channels, num_outputs: torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(in_channels * 64, num_outputs)
    ))  # fmt: skip
    plugin.loss("square", lambda logits, labels, weights: ((logits[:, 0] - labels) ** 2).mean())
    plan = plan_for("line", loss="square", steps=30, lr=0.02, class_weighting="none")
    trained = train(plan, cases_for(), plugin=plugin)
    assert sorted(trained.params) == ["1.bias", "1.weight"] and trained.mean_loss < 0.4


@pytest.mark.gpu
def test_kept_moments_are_used_on_a_gpu_as_on_a_cpu(plan_for, cases_for):
    """Fused AdamW reads its step count on the device of the params."""
    plan = plan_for("small_cnn", rounds=2, batch_size=64, lr=0.01, mixed_precision=False)
    plan = replace(plan, model=replace(plan.model, args={**plan.model.args, "dropout": 0.0}))
    ends = []
    for device in ("cpu", "cuda"):
        trainer = trainer_for(plan, device=device)
        params, moments = trainer.first_params(), None
        for number in (1, 2):
            done = trainer.train(
                params, cases_for(), site_id="oslo", round_number=number, moments=moments
            )
            params, moments = done.params, done.moments
        ends.append(params)
    for name in ends[0]:
        np.testing.assert_allclose(ends[1][name], ends[0][name], atol=1e-3)
