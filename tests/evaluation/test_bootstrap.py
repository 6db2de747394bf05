"""The bootstrap draws subjects within classes, and its figures are those of plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hospitium.evaluation.bootstrap import NUM_REPLICATES, Resamples, limits, weighted_auroc
from hospitium.randomness import rng


def resamples(labels: np.ndarray, subjects: np.ndarray | None = None, seed: int = 1) -> Resamples:
    subjects = np.arange(len(labels)) if subjects is None else subjects
    return Resamples(labels, subjects, rng(seed, "bootstrap"))


def test_each_resample_has_as_many_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [30, 8, 2])
    for c, expected in enumerate([30, 8, 2]):
        counts = resamples(labels).draws(lambda w, c=c: w[labels == c].sum(axis=0))
        assert set(counts.tolist()) == {expected}


def test_the_cases_of_one_subject_stay_together() -> None:
    subjects = np.array(["a", "b", "a", "c", "b", "a"])
    drawn = resamples(np.array([0, 0, 1, 1, 0, 0]), subjects)
    assert not drawn.draws(lambda w: np.abs(w[0] - w[2]) + np.abs(w[2] - w[5])).any()
    assert not drawn.draws(lambda w: np.abs(w[1] - w[4])).any()
    assert drawn.draws(lambda w: np.abs(w[0] - w[3])).any()


def test_a_mixed_subject_counts_with_its_rarest_class() -> None:
    labels, subjects = np.array([0] * 9 + [1, 1]), np.array([*range(9), 0, 10])
    positives = resamples(labels, subjects).draws(lambda w: w[labels == 1].sum(axis=0))
    assert set(positives.tolist()) == {2.0}


def test_a_weighted_auroc_is_that_of_scikit_learn() -> None:
    generator, positive = np.random.default_rng(0), np.arange(40) % 3 == 0
    scores = np.round(generator.normal(size=40), 1)
    weights = generator.integers(0, 4, size=(40, 5)).astype(float)
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in weights.T]
    assert weighted_auroc(scores, positive, weights) == pytest.approx(expected)


def test_the_first_draw_is_the_figure_of_the_data_itself() -> None:
    values = np.random.default_rng(0).normal(size=25)
    draws = resamples(np.arange(25) % 2).draws(lambda w: values @ w / w.sum(axis=0))
    assert len(draws) == 1 + NUM_REPLICATES and draws[0] == pytest.approx(values.mean())


def test_the_spread_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=200)
    draws = resamples(np.zeros(200, dtype=int)).draws(lambda w: values @ w / w.sum(axis=0))
    assert draws[1:].std() == pytest.approx(values.std() / np.sqrt(200), rel=0.08)


def test_the_same_seed_draws_the_same() -> None:
    labels = np.arange(30) % 2
    one, two, other = (
        resamples(labels, seed=s).draws(lambda w: w[:7].sum(axis=0)) for s in (3, 3, 4)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_draws_that_all_agree_give_no_limits() -> None:
    assert limits(np.ones(5)) is None
    assert limits(np.array([0.5, np.nan, np.nan])) is None
    assert limits(np.array([0.5, 0.4, np.nan, 0.6])) == pytest.approx((0.405, 0.595))
