"""The comparison has the fixed shape, pairs its differences, and says what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hospitium.evaluation.comparison import ModelScores, TestSet, compare
from hospitium.evaluation.exam import METRICS, Exam, Prediction
from hospitium.evaluation.intervals import delong
from hospitium.evaluation.report_shape import Comparison

CompareMadeUp = Callable[..., dict[str, Any]]


def exam_of(labels: np.ndarray, subjects: np.ndarray | None = None, num_classes: int = 2) -> Exam:
    subjects = np.arange(len(labels)) if subjects is None else subjects
    test = TestSet(labels=labels, subjects=subjects)
    return Exam(test, num_classes=num_classes, generator=np.random.default_rng(0))


def draw(labels: np.ndarray, *, seed: int, skill: float = 1.0, k: int = 2) -> Prediction:
    logits = np.random.default_rng(seed).normal(size=(len(labels), k))
    odds = np.exp(logits + skill * np.eye(k)[labels])
    return Prediction(probabilities=odds / odds.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_comparison_has_the_fixed_shape(
    compare_made_up: CompareMadeUp, num_classes: int
) -> None:
    comparison = compare_made_up(num_classes=num_classes)
    assert set(comparison) == set(Comparison.__annotations__)
    for result in comparison["results"].values():
        tables = [t for site in result["per_site"].values() for t in (site["own"], site["joint"])]
        for table in [result["test"], *tables]:
            assert tuple(table) == METRICS
            assert all({"estimate", "lower", "upper"} <= set(m) for m in table.values())
    json.dumps(comparison, allow_nan=False)


def test_the_same_seed_gives_the_same_comparison(compare_made_up: CompareMadeUp) -> None:
    assert compare_made_up() == compare_made_up()


def test_gap_closed_is_the_share_of_the_way_to_pooled(compare_made_up: CompareMadeUp) -> None:
    comparison = compare_made_up()
    f, p, loc = (
        comparison["results"][name]["test"]["auroc"]["estimate"]
        for name in ("federated", "pooled", "local_only")
    )
    assert comparison["gap_closed"] == pytest.approx((f - loc) / (p - loc))
    assert comparison["ratio_to_pooled"] == pytest.approx(f / p)
    assert comparison["federated_minus_pooled"]["estimate"] == pytest.approx(f - p)
    assert comparison["federated_minus_local_only"]["estimate"] == pytest.approx(f - loc)


def test_without_a_gap_none_is_closed(compare_made_up: CompareMadeUp) -> None:
    comparison = compare_made_up(skills=(2.0, 2.5, 2.0))
    assert comparison["gap_closed"] is None
    assert "less than 0.01" in comparison["missing"]["gap_closed"]


def test_without_pooled_training_its_figures_are_missing(compare_made_up: CompareMadeUp) -> None:
    comparison = compare_made_up(with_pooled=False)
    assert comparison["results"]["pooled"] is None and comparison["gap_closed"] is None
    assert {"pooled", "gap_closed", "ratio_to_pooled"} == set(comparison["missing"])
    difference = comparison["federated_minus_pooled"]
    assert difference["estimate"] is None and difference["reason"]


def test_local_only_is_the_mean_of_the_sites_own_models(compare_made_up: CompareMadeUp) -> None:
    local = compare_made_up()["results"]["local_only"]
    for name in METRICS:
        sites = [site["joint"][name]["estimate"] for site in local["per_site"].values()]
        assert local["test"][name]["estimate"] == pytest.approx(np.mean(sites))
        assert local["test"][name]["lower"] < np.mean(sites) < local["test"][name]["upper"]


def test_a_gain_is_the_shared_model_minus_the_own_one(compare_made_up: CompareMadeUp) -> None:
    comparison = compare_made_up()
    for site, gain in comparison["gain_over_own_model"].items():
        for place in ("own", "joint"):
            shared, own = (
                comparison["results"][name]["per_site"][site][place]["auroc"]["estimate"]
                for name in ("federated", "local_only")
            )
            assert gain[place]["estimate"] == pytest.approx(shared - own)
            assert gain[place]["num_positive"] > 0


def test_a_site_of_one_class_is_missing_and_never_a_half(compare_made_up: CompareMadeUp) -> None:
    lone = TestSet(labels=np.zeros(12, dtype=int), subjects=np.arange(12))
    both = TestSet(labels=np.arange(40) % 2, subjects=np.arange(40))
    comparison = compare_made_up(own={"lone": lone, "both": both})
    own = comparison["results"]["federated"]["per_site"]["lone"]["own"]
    assert own["auroc"]["estimate"] is None and own["auroc"]["reason"] == "one class only"
    assert own["sensitivity"]["estimate"] is None and own["specificity"]["estimate"] is not None
    assert comparison["worst_site"]["federated"]["site_id"] == "both"
    assert comparison["gain_over_own_model"]["lone"]["own"]["reason"] == "one class only"


def test_a_site_without_test_cases_or_own_model_is_missing() -> None:
    labels = np.arange(30) % 2
    joint = TestSet(labels=labels, subjects=np.arange(30))
    scores = ModelScores(joint=draw(labels, seed=1).probabilities, own={"a": np.zeros((0, 2))})
    comparison = compare(
        joint=joint,
        own={"a": TestSet(labels=labels[:0], subjects=np.arange(0))},
        classes=("no", "yes"),
        federated=scores,
        local_only={},
        ensemble=scores,
        pooled=None,
        seed=1,
    )
    own = comparison["results"]["federated"]["per_site"]["a"]["own"]["auroc"]
    assert own["reason"] == "no test cases"
    assert comparison["gain_over_own_model"]["a"]["joint"]["estimate"] is None
    assert comparison["results"]["local_only"]["test"]["auroc"]["estimate"] is None
    assert comparison["worst_site"]["federated"]["site_id"] is None


def test_the_worst_site_is_the_lowest_on_its_own_cases(compare_made_up: CompareMadeUp) -> None:
    comparison = compare_made_up(skills=(1.0, 0.5, 1.0))
    sites = comparison["results"]["federated"]["per_site"]
    estimates = {site: table["own"]["auroc"]["estimate"] for site, table in sites.items()}
    worst = comparison["worst_site"]["federated"]
    assert worst["auroc"]["estimate"] == min(estimates.values()) == estimates[worst["site_id"]]
    mean = comparison["mean_of_sites"]["federated"]
    assert mean["estimate"] == pytest.approx(np.mean(list(estimates.values())))


def test_the_threshold_given_is_the_threshold_used() -> None:
    labels = np.array([0, 0, 1, 1])
    rows = np.array([[0.9, 0.1], [0.7, 0.3], [0.65, 0.35], [0.2, 0.8]])
    exam = exam_of(labels)
    at_half = exam.measure([Prediction(probabilities=rows)])
    lower = exam.measure([Prediction(probabilities=rows, threshold=0.32)])
    assert at_half["sensitivity"].estimate == 0.5 and lower["sensitivity"].estimate == 1.0
    assert lower["accuracy"].estimate == 1.0


def test_several_cases_of_a_subject_make_the_interval_wider() -> None:
    labels = np.repeat(np.arange(40) % 2, 5)
    scores = np.repeat(draw(labels[::5], seed=2).probabilities, 5, axis=0)
    model = Prediction(probabilities=scores)
    grouped = exam_of(labels, np.repeat(np.arange(40), 5)).measure([model])
    alone = exam_of(labels).measure([model])
    for name in METRICS:
        widths = [m[name].upper - m[name].lower for m in (grouped, alone)]
        assert grouped[name].estimate == pytest.approx(alone[name].estimate)
        assert widths[0] > 1.5 * widths[1]


def test_the_bootstrap_of_one_auroc_is_near_delongs() -> None:
    labels = np.arange(300) % 2
    model = draw(labels, seed=3)
    doubled = exam_of(np.r_[labels, labels], np.r_[np.arange(300), np.arange(300)])
    twice = Prediction(probabilities=np.r_[model.probabilities, model.probabilities])
    booted, closed = doubled.auroc([twice]), delong(model.probabilities[:, 1], labels == 1)
    assert booted.estimate == pytest.approx(closed.estimate)
    assert booted.lower == pytest.approx(closed.lower, abs=0.008)
    assert booted.upper == pytest.approx(closed.upper, abs=0.008)


def test_macro_figures_are_those_of_scikit_learn() -> None:
    labels = np.arange(120) % 3
    model = draw(labels, seed=4, k=3)
    auroc = exam_of(labels, num_classes=3).auroc([model])
    assert auroc.estimate == pytest.approx(
        roc_auc_score(labels, model.probabilities, multi_class="ovr", average="macro")
    )
    assert auroc.lower < auroc.estimate < auroc.upper and auroc.num_positive == 40


def test_a_macro_average_says_which_classes_it_leaves_out() -> None:
    labels = np.arange(60) % 2
    measured = exam_of(labels, num_classes=3).measure([draw(labels, seed=5, k=3)])
    assert measured["auroc"].reason == "over the 2 of 3 classes that have cases"
    assert measured["sensitivity"].reason and measured["accuracy"].reason is None


def test_perfect_models_keep_an_interval_whatever_the_method() -> None:
    labels = np.arange(60) % 3
    models = [draw(labels, seed=s, skill=40, k=3) for s in (1, 2)]
    exam = exam_of(labels, num_classes=3)
    for metric in exam.measure(models).values():
        assert metric.estimate == 1 and metric.lower < 0.95 and metric.upper == 1
    difference = exam.auroc_difference(models[:1], models[1:])
    assert difference.lower < 0 == difference.estimate < difference.upper


@pytest.mark.parametrize("cases_each", [1, 2])
def test_differences_are_paired(cases_each: int) -> None:
    labels = np.repeat(np.arange(200) % 2, cases_each)
    exam = exam_of(labels, np.repeat(np.arange(200), cases_each))
    first, noise = (draw(labels, seed=s, skill=1.0) for s in (6, 7))
    mixed = 0.9 * first.probabilities + 0.1 * noise.probabilities
    second = Prediction(probabilities=mixed, threshold=0.5)
    for difference, single in (
        (exam.auroc_difference([first], [second]), exam.auroc([first])),
        (exam.accuracy_difference(first, second), exam.measure([first])["accuracy"]),
    ):
        assert difference.lower < difference.estimate < difference.upper
        assert difference.upper - difference.lower < 0.7 * (single.upper - single.lower)


def test_scores_that_are_not_finite_are_missing() -> None:
    labels = np.arange(10) % 2
    broken = Prediction(probabilities=np.full((10, 2), np.nan))
    exam = exam_of(labels)
    assert exam.measure([broken])["auroc"].reason == "the model's scores are not finite"
    assert exam.auroc_difference([broken], [broken]).estimate is None
    assert exam.accuracy_difference(broken, broken).estimate is None
