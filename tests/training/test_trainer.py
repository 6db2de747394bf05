import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.plan import parse_plan
from hospitium.training.trainer import (
    balanced_weights,
    batch_size,
    batches,
    case_weights,
    learning_rate,
    logit_offset,
    num_outputs,
)


def plan_with(rounds=3, classes=("no", "yes"), **training):
    lines = [f"{key} = {value!r}".lower() for key, value in training.items()]
    text = "\n".join([f"rounds.count = {rounds}", f"task.classes = {list(classes)!r}"])
    return parse_plan("\n".join([text, "[training]", *lines]))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 30))
def test_batches_pass_over_all_cases_before_any_comes_again(num_cases, size, steps):
    plan = plan_with(steps=steps, batch_size=size)
    chosen = batches(plan, num_cases=num_cases, site_id="oslo", round_number=2)
    assert [len(index) for index in chosen] == [min(size, num_cases)] * steps
    drawn = np.concatenate(chosen)
    for start in range(0, len(drawn), num_cases):
        part = drawn[start : start + num_cases]
        assert len(set(part.tolist())) == len(part)
    assert drawn.dtype == np.int64 and set(drawn.tolist()) <= set(range(num_cases))


def test_batches_are_drawn_anew_for_each_site_and_round_and_the_same_for_the_same():
    plan = plan_with(steps=2, batch_size=8)

    def drawn(site_id, round_number):
        chosen = batches(plan, num_cases=50, site_id=site_id, round_number=round_number)
        return np.concatenate(chosen).tolist()

    assert drawn("oslo", 1) == drawn("oslo", 1)
    assert len({tuple(drawn(name, number)) for name in "ab" for number in (1, 2)}) == 4


@pytest.mark.parametrize(
    ("num_cases", "rate", "expected"),
    [(100, 0.0, 32), (20, 0.0, 20), (200, 0.1, 20), (30, 0.1, 8), (5, 0.1, 5), (64, 1.0, 64)],
)
def test_a_batch_is_the_same_for_all_or_a_share_of_at_least_eight_cases(num_cases, rate, expected):
    plan = plan_with(batch_size=32, sampling_rate=rate)
    assert batch_size(plan, num_cases=num_cases) == expected


def test_the_rate_rises_in_a_line_then_falls_by_a_cosine_over_all_rounds():
    plan = plan_with(rounds=10, steps=10, lr=0.4, warmup=0.1)
    rates = [learning_rate(plan, step) for step in range(100)]
    np.testing.assert_allclose(rates[:10], 0.04 * np.arange(1, 11))
    cosine = 0.2 * (1 + np.cos(np.pi * np.arange(90) / 90))
    np.testing.assert_allclose(rates[10:], cosine)
    assert rates[99] < 0.001


def test_the_warm_up_is_at_most_200_steps_and_may_be_none():
    long = plan_with(rounds=100, steps=100, lr=1.0, warmup=0.05, schedule="constant")
    assert learning_rate(long, 198) < 1.0 == learning_rate(long, 199) == learning_rate(long, 9_999)
    assert learning_rate(plan_with(lr=0.3, warmup=0.0), 0) == 0.3


@pytest.mark.parametrize(("classes", "width"), [(("a", "b"), 1), (("a", "b", "c"), 3)])
def test_two_classes_have_one_logit_and_more_have_one_each(classes, width):
    assert num_outputs(plan_with(classes=classes)) == width


def test_the_logit_offset_is_the_log_odds_of_the_sites_own_labels():
    plan = plan_with(class_weighting="logit_adjusted")
    offset = logit_offset(plan, np.array([0] * 30 + [1] * 10))
    np.testing.assert_allclose(offset, [np.log(10.5 / 30.5)], rtol=1e-6)
    one_class = logit_offset(plan, np.zeros(20, np.int64))
    assert np.isfinite(one_class).all() and one_class[0] < -3


def test_the_logit_offset_of_many_classes_is_the_log_of_their_shares():
    plan = plan_with(classes=("a", "b", "c"), class_weighting="logit_adjusted")
    offset = logit_offset(plan, np.array([0, 0, 0, 1, 2, 2]))
    np.testing.assert_allclose(offset, np.log(np.array([3.5, 1.5, 2.5]) / 7.5), rtol=1e-6)


@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_without_logit_adjustment_no_class_is_offset(weighting):
    plan = plan_with(classes=("a", "b", "c"), class_weighting=weighting)
    offset = logit_offset(plan, np.array([0, 0, 1]))
    assert len(set(offset.tolist())) == 1
    two = logit_offset(plan_with(class_weighting=weighting), np.array([0, 0, 1]))
    assert two.tolist() == [0.0]


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_balanced_weights_make_every_class_count_the_same_with_mean_one(counts):
    found = balanced_weights({str(number): count for number, count in enumerate(counts)})
    total = sum(counts)
    for weight, count in zip(found, counts, strict=True):
        assert weight * count == pytest.approx(total / len(counts), abs=count * 1e-6)
    assert sum(w * n for w, n in zip(found, counts, strict=True)) == pytest.approx(total, rel=1e-5)


def test_a_class_without_a_case_anywhere_has_no_weight():
    assert balanced_weights({"a": 10, "b": 0}) == (0.5, 0.0)


def test_the_weight_of_a_case_is_that_of_its_class_and_one_without_weights():
    labels = np.array([0, 1, 1])
    assert case_weights(plan_with(class_weights=[0.5, 2.0]), labels).tolist() == [0.5, 2.0, 2.0]
    assert case_weights(plan_with(), labels).tolist() == [1.0, 1.0, 1.0]


def modules_after(code):
    """Return which heavy packages a fresh Python has imported after this code."""
    show = (
        "import sys; print([m for m in ('numpy', 'torch', 'monai', 'pydicom') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return eval(done.stdout)


LOGISTIC = """
from hospitium.training.trainer import trainer_for
from hospitium.plan import parse_plan
trainer_for(parse_plan("model.name = 'logistic'")).first_params()
"""


def test_importing_the_package_imports_nothing_heavy():
    assert modules_after("import hospitium, hospitium.errors, hospitium.plan") == []


def test_a_numpy_model_is_trained_without_torch():
    assert modules_after(LOGISTIC) == ["numpy"]


@pytest.mark.ci
def test_small_cnn_is_built_without_monai():
    assert modules_after(LOGISTIC.replace("logistic", "small_cnn")) == ["numpy", "torch"]
