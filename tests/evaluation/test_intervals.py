"""Intervals agree with their papers, with SciPy, and with plain loops over pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hospitium.evaluation import intervals
from hospitium.evaluation.intervals import Metric


def draw(seed: int, n: int = 50, *, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    positive = np.arange(n) % 2 == 0
    scores = np.random.default_rng(seed).normal(size=n) + skill * positive
    return np.round(scores, 1), positive


def wins(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return DeLong's kernel for each pair (positive, negative), by a plain loop."""
    return np.array(
        [[(p > q) + 0.5 * (p == q) for q in scores[~positive]] for p in scores[positive]]
    )


def delong_by_loop(kernel: np.ndarray) -> float:
    rows, columns = kernel.mean(axis=1), kernel.mean(axis=0)
    return float(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns))


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_an_auroc_is_delongs_on_the_logit(seed: int) -> None:
    scores, positive = draw(seed)
    metric, kernel = intervals.delong(scores, positive), wins(scores, positive)
    area, error = kernel.mean(), math.sqrt(delong_by_loop(kernel))
    half = 1.959964 * error / (area * (1 - area))
    limits = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-half, half]))))
    assert metric.estimate == pytest.approx(area)
    assert (metric.lower, metric.upper) == pytest.approx(tuple(limits), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_a_difference_is_delongs_for_pairs(seed: int) -> None:
    first, positive = draw(seed)
    second = first + np.random.default_rng(seed + 100).normal(size=len(first))
    metric = intervals.paired_delong(first, second, positive)
    kernel = wins(first, positive) - wins(second, positive)
    half = 1.959964 * math.sqrt(delong_by_loop(kernel))
    assert metric.estimate == pytest.approx(kernel.mean())
    assert metric.upper == pytest.approx(kernel.mean() + half, rel=1e-6)
    assert metric.lower == pytest.approx(kernel.mean() - half, rel=1e-6)


def test_models_that_rank_alike_differ_by_nothing() -> None:
    scores, positive = draw(1)
    metric = intervals.paired_delong(scores, 3 * scores + 1, positive)
    assert (metric.estimate, metric.lower, metric.upper) == (0.0, 0.0, 0.0)


def test_two_perfect_models_are_not_certainly_equal() -> None:
    positive = np.array([False] * 8 + [True] * 8)
    first, second = np.arange(16.0), np.r_[np.arange(8.0)[::-1], np.arange(8.0, 16.0)]
    metric = intervals.paired_delong(first, second, positive)
    assert metric.estimate == 0 and metric.lower is not None and metric.upper is not None
    assert metric.lower < -0.1 and metric.upper > 0.1


def test_one_class_is_missing_and_says_so() -> None:
    metric = intervals.delong(np.array([0.1, 0.9]), np.array([True, True]))
    assert metric.estimate is None and metric.reason == "one class only"
    assert intervals.paired_delong(np.ones(2), np.zeros(2), np.array([True, True])) == metric


@pytest.mark.parametrize("scores", [[1, 2, 3, 4], [5, 5, 5, 5], [4, 3, 2, 1]])
def test_without_a_usable_variance_the_interval_is_wide(scores: list[float]) -> None:
    metric = intervals.delong(np.array(scores), np.array([False, False, True, True]))
    assert metric.lower is not None and metric.upper is not None
    assert metric.upper - metric.lower > 0.4


def test_the_limits_of_the_pseudo_score_solve_its_equation() -> None:
    area, p, q = 0.97, 12, 30
    for t in intervals.pseudo_score(area, num_positive=p, num_negative=q):
        star = (p + q) / 2 - 1
        spread = t * (1 - t) * (1 + star * ((1 - t) / (2 - t) + t / (1 + t))) / (p * q)
        assert abs(area - t) == pytest.approx(1.959964 * math.sqrt(spread), rel=1e-5)


@pytest.mark.parametrize("skill", [0.0, 1.2, 3.3])
def test_nineteen_in_twenty_intervals_hold_the_true_area(skill: float) -> None:
    generator, positive = np.random.default_rng(5), np.arange(60) % 2 == 0
    truth = stats.norm.cdf(skill / math.sqrt(2))
    drawn = [
        intervals.delong(generator.normal(size=60) + skill * positive, positive) for _ in range(400)
    ]
    held = np.mean([m.lower <= truth <= m.upper for m in drawn])
    assert 0.92 < held < 0.995


@pytest.mark.parametrize(("yes", "n"), [(0, 10), (7, 10), (10, 10), (81, 263)])
def test_wilsons_limits_are_those_of_scipy(yes: int, n: int) -> None:
    expected = stats.binomtest(yes, n).proportion_ci(method="wilson")
    assert intervals.wilson(yes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_paired_difference_is_that_of_newcombes_table() -> None:
    """Newcombe 1998, table II: 36, 12, 2, 0 by method 10."""
    first = np.repeat([True, True, False, False], [36, 12, 2, 0])
    second = np.repeat([True, False, True, False], [36, 12, 2, 0])
    metric = intervals.newcombe_paired(first, second)
    assert metric.estimate == pytest.approx(0.2)
    assert (metric.lower, metric.upper) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_the_mean_over_sites_leaves_out_what_is_missing() -> None:
    sites = [
        Metric(estimate=0.8, lower=0.7, upper=0.9, n=50, num_positive=20),
        Metric(estimate=0.9, lower=0.8, upper=1.0, n=30, num_positive=10),
        intervals.missing("one class only", n=9),
    ]
    mean = intervals.mean_over_sites(sites)
    assert mean.estimate == pytest.approx(0.85) and mean.n == 80 and mean.num_positive == 30
    assert mean.lower == pytest.approx(0.85 - math.sqrt(2) * 0.1 / 2)
    assert mean.reason == "over 2 of 3 sites"
    assert intervals.mean_over_sites(sites[2:]).estimate is None


def test_a_difference_with_a_missing_side_is_missing() -> None:
    known = Metric(estimate=0.8, lower=0.7, upper=0.9)
    gone = intervals.missing("one class only")
    assert intervals.mover_difference(known, gone) is gone
    assert intervals.mover_difference(gone, known) is gone


def test_a_reason_is_written_only_if_there_is_one() -> None:
    shown = Metric(estimate=0.8, lower=0.7, upper=0.9, n=5).to_json()
    assert shown == {"estimate": 0.8, "lower": 0.7, "upper": 0.9, "n": 5, "num_positive": None}
    assert intervals.missing("no test cases").to_json()["reason"] == "no test cases"
