"""Sums of scores add over sites and give the figures that single scores would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from hospitium.errors import UsageError
from hospitium.evaluation.intervals import delong
from hospitium.evaluation.score_sums import add_sums, curve_metrics, layout, score_sums


def draw(num_classes: int, *, n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % num_classes
    logits = np.random.default_rng(seed).normal(size=(n, num_classes)) * 2
    logits += 1.5 * np.eye(num_classes)[labels]
    return (logits[:, 1:] - logits[:, :1] if num_classes == 2 else logits), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


@given(
    st.integers(2, 4),
    st.lists(st.integers(0, 4), min_size=60, max_size=60),
)
def test_a_partition_over_sites_does_not_change_the_figures(k: int, sites: list[int]) -> None:
    logits, labels = draw(k, n=60)
    total = score_sums(logits[:0], labels[:0])
    for site in range(5):
        mine = np.array(sites) == site
        total = add_sums(total, score_sums(logits[mine], labels[mine]))
    assert total == score_sums(logits, labels)
    assert curve_metrics(total) == curve_metrics(score_sums(logits, labels))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_layout_names_every_vector(num_classes: int) -> None:
    sums = score_sums(*draw(num_classes))
    assert {name: len(vector) for name, vector in sums.items()} == layout(num_classes)
    assert all(type(value) is int for vector in sums.values() for value in vector)


@pytest.mark.parametrize("seed", range(3))
def test_a_binned_auroc_is_within_its_bound(seed: int) -> None:
    logits, labels = draw(2, seed=seed)
    figures = curve_metrics(score_sums(logits, labels))
    error = abs(figures["auroc"] - sk.roc_auc_score(labels, logits[:, 0]))
    assert error <= figures["auroc_bound"] + 1e-12 < 0.002


def test_the_limits_on_bins_are_delongs() -> None:
    logits, labels = draw(2)
    binned = np.floor((logits[:, 0] + 12) * 1024 / 24)
    exact, figures = delong(binned, labels == 1), curve_metrics(score_sums(logits, labels))
    assert figures["auroc"] == pytest.approx(exact.estimate)
    assert (figures["lower"], figures["upper"]) == pytest.approx((exact.lower, exact.upper))


def test_macro_auroc_is_close_to_that_of_scikit_learn() -> None:
    logits, labels = draw(4)
    figures = curve_metrics(score_sums(logits, labels))
    expected = sk.roc_auc_score(labels, softmax(logits), multi_class="ovr", average="macro")
    assert figures["auroc"] == pytest.approx(expected, abs=figures["auroc_bound"])
    assert figures["lower"] is None


@pytest.mark.parametrize("num_classes", [2, 4])
def test_loss_and_accuracy_are_those_of_scikit_learn(num_classes: int) -> None:
    logits, labels = draw(num_classes)
    both = np.concatenate([np.zeros_like(logits), logits], axis=1) if num_classes == 2 else logits
    figures = curve_metrics(score_sums(logits.astype(np.float32), labels))
    assert figures["loss"] == pytest.approx(sk.log_loss(labels, softmax(both)), abs=1e-6)
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, both.argmax(axis=1)))
    assert figures["n"] == len(labels)


def test_confusion_counts_true_classes_in_rows() -> None:
    logits, labels = draw(3)
    expected = sk.confusion_matrix(labels, logits.argmax(axis=1))
    assert score_sums(logits, labels)["confusion"] == tuple(expected.ravel().tolist())


def test_extreme_logits_fall_into_the_open_ends() -> None:
    sums = score_sums(np.array([[-1e30], [1e30]]), np.array([1, 0]))
    assert sums["positives.1"][0] == 1 and sums["negatives.1"][1023] == 1
    assert sums["loss"] == (2 * 1000 * 2**24,)


def test_one_class_has_no_auroc() -> None:
    figures = curve_metrics(score_sums(np.array([[0.3], [1.2]]), np.array([1, 1])))
    assert figures["auroc"] is None and figures["reason"] == "one class only"
    assert figures["accuracy"] == 1.0


def test_scores_that_are_not_finite_leave_every_figure_missing() -> None:
    figures = curve_metrics(score_sums(np.array([[0.3], [np.nan]]), np.array([1, 0])))
    assert figures["auroc"] is figures["loss"] is figures["accuracy"] is None
    assert figures["reason"] == "the scores of 1 cases are not finite"


def test_no_cases_have_no_figures() -> None:
    figures = curve_metrics(score_sums(np.zeros((0, 1)), np.zeros(0, dtype=int)))
    assert figures["loss"] is None and figures["reason"] == "no cases"


def test_sums_of_different_tasks_are_not_added() -> None:
    with pytest.raises(UsageError, match="Nothing was added"):
        add_sums(score_sums(*draw(2)), score_sums(*draw(3)))
