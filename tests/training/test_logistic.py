import math
from dataclasses import replace

import numpy as np
import pytest

from hospitium.errors import SiteError
from hospitium.training.logistic import LogisticTrainer
from hospitium.training.trainer import batches, learning_rate, logit_offset
from hospitium.wire.blob import digest_of, manifest_of


def train(plan, cases, **values):
    trainer = LogisticTrainer(plan)
    given = {"site_id": "oslo", "round_number": 1, **values}
    return trainer.train(trainer.first_params(), cases, **given)


def slow_train(plan, cases, anchor):
    """Train for one round case by case and class by class, in plain Python floats."""
    w = [[float(v) for v in row] for row in anchor["weight"]]
    b = [float(v) for v in anchor["bias"]]
    offset = logit_offset(plan, cases.labels).astype(float).tolist()
    classes, size = len(w), len(w[0])
    mw, mb = [[0.0] * size for _ in w], [0.0] * classes
    lam, mu = plan.training.weight_decay, plan.algorithm.mu
    chosen = batches(plan, num_cases=len(cases), site_id="oslo", round_number=1)
    for step, index in enumerate(chosen):
        gw, gb = [[0.0] * size for _ in w], [0.0] * classes
        for case in index:
            x = [float(v) for v in cases.images[cases.rows[case]].reshape(-1)]
            label = int(cases.labels[case])
            z = [sum(p * v for p, v in zip(w[c], x, strict=True)) + b[c] + offset[c]
                 for c in range(classes)]  # fmt: skip
            if classes == 1:
                errors = [1 / (1 + math.exp(-z[0])) - label]
            else:
                total = sum(math.exp(v) for v in z)
                errors = [math.exp(v) / total - (c == label) for c, v in enumerate(z)]
            for c, error in enumerate(errors):
                gb[c] += error / len(index)
                for k in range(size):
                    gw[c][k] += error * x[k] / len(index)
        rate, rho = learning_rate(plan, step), plan.training.momentum
        for c in range(classes):
            gb[c] += mu * (b[c] - float(anchor["bias"][c]))
            mb[c] = rho * mb[c] + gb[c]
            b[c] -= rate * (gb[c] + rho * mb[c])
            for k in range(size):
                g = gw[c][k] + mu * (w[c][k] - float(anchor["weight"][c][k])) + lam * w[c][k]
                mw[c][k] = rho * mw[c][k] + g
                w[c][k] -= rate * (g + rho * mw[c][k])
    return w, b, mw, mb


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c")])
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_a_round_equals_a_slow_loop_in_float64(plan_for, cases_for, classes, mu):
    """Moments are float64 and show 1e-12; params leave as float32 and show its rounding."""
    plan = plan_for(classes=classes, optimizer="sgd", lr=0.2, weight_decay=0.01, size=4)
    plan = replace(plan, algorithm=replace(plan.algorithm, mu=mu))
    cases = cases_for(num_classes=len(classes), size=4)
    found = train(plan, cases)
    w, b, mw, mb = slow_train(plan, cases, LogisticTrainer(plan).first_params())
    np.testing.assert_allclose(found.moments["m/weight"], mw, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.moments["m/bias"], mb, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.params["weight"], w, rtol=6e-8, atol=1e-12)
    np.testing.assert_allclose(found.params["bias"], b, rtol=6e-8, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_task_twice_gives_the_same_bits(plan_for, cases_for, optimizer):
    plan = plan_for(optimizer=optimizer)
    one, two = train(plan, cases_for()), train(plan, cases_for())
    assert digest_of(one.params) == digest_of(two.params)
    assert digest_of(one.moments) == digest_of(two.moments)
    assert one.mean_loss == two.mean_loss and one.num_steps == 4


def test_training_lowers_the_loss_and_scores_the_classes_apart(plan_for, cases_for):
    plan, cases = plan_for(steps=60, lr=0.05, normalise="image"), cases_for(60)
    trainer = LogisticTrainer(plan)
    trained = train(plan, cases)
    logits = trainer.logits(trained.params, cases)
    assert logits.shape == (60, 1) and logits.dtype == np.float32
    assert ((logits[:, 0] > 0) == (cases.labels == 1)).mean() > 0.9
    assert trained.mean_loss < 0.65


def test_class_weights_weigh_the_loss(plan_for, cases_for):
    cases = cases_for()
    only_yes = plan_for(class_weights=(0.0, 2.0), class_weighting="balanced", lr=0.1, steps=20)
    trained = train(only_yes, cases)
    assert trained.params["bias"][0] > 0.3
    assert (LogisticTrainer(only_yes).logits(trained.params, cases) > 0).all()


def test_normalising_by_image_or_by_site_is_what_its_name_says(plan_for, cases_for):
    cases = cases_for(6)
    images = cases.images[cases.rows].reshape(6, -1).astype(float)
    for how, inputs in {
        "none": images,
        "site": (images - cases.mean) / cases.sd,
        "image": (images - images.mean(1, keepdims=True)) / (images.std(1, keepdims=True) + 1e-6),
    }.items():
        trainer = LogisticTrainer(plan_for(normalise=how))
        params = trainer.first_params()
        expected = inputs @ params["weight"].T.astype(float) + params["bias"]
        np.testing.assert_allclose(trainer.logits(params, cases), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_is_a_site_error(plan_for, cases_for):
    cases = cases_for()
    cases.images[3] = np.nan
    with pytest.raises(SiteError, match="training diverged: the loss is not finite"):
        train(plan_for(steps=9), cases)


def test_no_training_cases_are_a_site_error_and_no_cases_to_score_are_no_logits(
    plan_for, cases_for
):
    with pytest.raises(SiteError, match="no training cases"):
        train(plan_for(), cases_for(0))
    trainer = LogisticTrainer(plan_for(classes=("a", "b", "c")))
    assert trainer.logits(trainer.first_params(), cases_for(0)).shape == (0, 3)


def test_the_first_params_depend_on_the_plans_init_seed_alone(plan_for):
    plan = plan_for(classes=("a", "b", "c"))
    first = LogisticTrainer(plan).first_params()
    assert manifest_of(first) == (("bias", "F32", (3,)), ("weight", "F32", (3, 64)))
    again = LogisticTrainer(replace(plan, seed=99)).first_params()
    assert digest_of(again) == digest_of(first)
    other = replace(plan, model=replace(plan.model, init_seed=8))
    assert digest_of(LogisticTrainer(other).first_params()) != digest_of(first)
