"""Exact metrics agree with scikit-learn, and with plain loops where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from hospitium.evaluation import metrics


def draw(seed: int, n: int = 80, *, steps: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Return scores with many ties, and both classes."""
    generator = np.random.default_rng(seed)
    positive = np.arange(n) % 3 == 0
    return np.round(generator.random(n) + 0.3 * positive, 1) * steps / 15, positive


@pytest.mark.parametrize("seed", range(5))
def test_auroc_with_ties_is_that_of_scikit_learn(seed: int) -> None:
    scores, positive = draw(seed)
    assert metrics.auroc(scores, positive) == pytest.approx(sk.roc_auc_score(positive, scores))


def test_auroc_of_one_class_does_not_exist() -> None:
    scores = np.array([0.2, 0.7])
    assert metrics.auroc(scores, np.array([True, True])) is None
    assert metrics.macro_auroc(np.stack([1 - scores, scores], axis=1), np.array([0, 0])) is None


def test_macro_auroc_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    probabilities, labels = generator.dirichlet(np.ones(4), size=90), np.arange(90) % 4
    expected = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert metrics.macro_auroc(probabilities, labels) == pytest.approx(expected)


def test_macro_auroc_goes_over_the_classes_that_are_present() -> None:
    generator = np.random.default_rng(2)
    probabilities, labels = generator.dirichlet(np.ones(3), size=40), np.arange(40) % 2
    areas = [sk.roc_auc_score(labels == c, probabilities[:, c]) for c in (0, 1)]
    assert metrics.macro_auroc(probabilities, labels) == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_accuracy_and_sensitivity_are_those_of_scikit_learn(num_classes: int) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, num_classes, 70)
    predicted = generator.integers(0, num_classes, 70)
    average = "binary" if num_classes == 2 else "macro"
    sensitivity, _ = metrics.sensitivity_specificity(predicted, labels, num_classes=num_classes)
    assert metrics.accuracy(predicted, labels) == sk.accuracy_score(labels, predicted)
    assert sensitivity == pytest.approx(sk.recall_score(labels, predicted, average=average))


def test_specificity_is_the_recall_of_the_negatives() -> None:
    generator = np.random.default_rng(4)
    labels, predicted = generator.integers(0, 2, (2, 60))
    _, specificity = metrics.sensitivity_specificity(predicted, labels, num_classes=2)
    assert specificity == pytest.approx(sk.recall_score(labels, predicted, pos_label=0))


def test_a_figure_without_cases_that_can_tell_does_not_exist() -> None:
    all_negative = np.zeros(3, dtype=int)
    figures = metrics.sensitivity_specificity(all_negative, all_negative, num_classes=2)
    assert figures == (None, 1.0)
    assert metrics.accuracy(all_negative[:0], all_negative[:0]) is None


def test_a_score_at_the_threshold_is_positive() -> None:
    probabilities = np.array([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]])
    assert metrics.predict(probabilities, threshold=0.4).tolist() == [0, 1, 1]
    assert metrics.predict(probabilities, threshold=None).tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_roc_points_are_those_of_scikit_learn(seed: int) -> None:
    scores, positive = draw(seed)
    alarms, hits, thresholds = metrics.roc_points(scores, positive)
    fpr, tpr, expected = sk.roc_curve(positive, scores, drop_intermediate=False)
    assert alarms / (~positive).sum() == pytest.approx(fpr)
    assert hits / positive.sum() == pytest.approx(tpr)
    assert thresholds == pytest.approx(expected)


def youden_by_loop(scores: np.ndarray, positive: np.ndarray, threshold: float) -> float:
    called = scores >= threshold
    return float(called[positive].mean() - called[~positive].mean())


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=40))
def test_no_threshold_is_better_than_youdens(cases: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 20 for score, _ in cases])
    positive = np.array([is_positive for _, is_positive in cases])
    threshold = metrics.youden_threshold(scores, positive)
    if positive.all() or not positive.any():
        assert threshold is None
        return
    best = max(youden_by_loop(scores, positive, t) for t in [*scores, 2.0])
    reached = 0.0 if threshold is None else youden_by_loop(scores, positive, threshold)
    assert reached == pytest.approx(best)


def test_youdens_threshold_is_the_middle_of_the_widest_plateau() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.8, 0.9])
    positive = np.array([False, True, False, True, True])
    assert metrics.youden_threshold(scores, positive) == pytest.approx((0.3 + 0.8) / 2)


def test_a_model_worse_than_chance_has_no_youden_threshold() -> None:
    scores, positive = np.array([0.9, 0.8, 0.1]), np.array([False, False, True])
    assert metrics.youden_threshold(scores, positive) is None
