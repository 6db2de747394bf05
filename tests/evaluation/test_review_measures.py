"""What is measured of an update, against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.evaluation.intervals import delong
from hospitium.evaluation.review_measures import Directions, scored
from hospitium.evaluation.score_sums import score_sums


def changes(seed: int, num_sites: int, size: int = 20_000) -> dict[str, dict[str, np.ndarray]]:
    draw = np.random.default_rng(seed)
    return {
        f"site-{n}": {
            "w": draw.normal(size=(size, 2)).astype(np.float32) * 10.0**n,
            "b": draw.normal(size=3).astype(np.float32),
        }
        for n in range(num_sites)
    }


def cosines(found: dict[str, dict[str, np.ndarray]]) -> dict[str, float | None]:
    directions = Directions()
    for name, delta in found.items():
        directions.add(name, delta)
    return {name: directions.cosine(name, delta) for name, delta in found.items()}


@given(st.integers(0, 99), st.integers(2, 6))
def test_the_cosine_is_that_with_the_others_brought_to_one_length(seed, num_sites):
    found = changes(seed, num_sites, size=50)
    flat = {k: np.concatenate([v["w"].ravel(), v["b"]]).astype(float) for k, v in found.items()}
    unit = {name: vector / np.linalg.norm(vector) for name, vector in flat.items()}
    for name, cosine in cosines(found).items():
        others = sum(vector for other, vector in unit.items() if other != name)
        expected = unit[name] @ others / np.linalg.norm(others)
        assert cosine == pytest.approx(expected, abs=1e-5)


def test_large_params_are_measured_in_blocks_as_small_ones_are():
    found = changes(1, 3, size=300_000)
    small = {name: {"w": np.array(d["w"]).ravel(), "b": d["b"]} for name, d in found.items()}
    assert cosines(found) == cosines(small)


def test_who_turns_its_change_around_points_away_from_all_others():
    one = changes(1, 1)["site-0"]
    found = {f"site-{n}": one for n in range(4)}
    found["turned"] = {name: -array for name, array in one.items()}
    measured = cosines(found)
    assert measured.pop("turned") == pytest.approx(-1, abs=1e-5)
    assert list(measured.values()) == pytest.approx([1.0] * 4, abs=1e-5)


def test_no_change_and_nobody_else_have_no_direction():
    one = changes(1, 1)["site-0"]
    assert cosines({"site-0": one}) == {"site-0": None}
    zero = {name: np.zeros_like(array) for name, array in one.items()}
    assert cosines({"site-0": one, "site-1": zero}) == {"site-0": None, "site-1": None}
    opposed = {"a": one, "b": {name: -array for name, array in one.items()}, "c": one}
    assert cosines(opposed)["c"] is None


def test_scores_are_those_of_the_single_cases():
    draw = np.random.default_rng(3)
    labels = np.arange(200) % 2
    logits = (draw.normal(size=200) + 2 * labels)[:, None]
    found = scored(score_sums(logits, labels))
    assert found["auroc"] / 1e6 == pytest.approx(
        delong(logits[:, 0], labels == 1).estimate, abs=0.01
    )
    signed = np.where(labels == 1, -logits[:, 0], logits[:, 0])
    assert found["loss"] / 1e6 == pytest.approx(np.logaddexp(0, signed).mean(), abs=1e-6)


def test_the_error_by_chance_is_the_spread_of_the_auroc_of_random_scores():
    draw = np.random.default_rng(5)
    labels = np.array([1] * 6 + [0] * 15)
    found = [scored(score_sums(draw.normal(size=(21, 1)), labels)) for _ in range(500)]
    spread = np.std([each["auroc"] for each in found])
    assert found[0]["auroc_error"] == pytest.approx(spread, rel=0.12)


def test_what_cannot_be_measured_is_not_there():
    assert scored({}) == {} and scored({"loss": (5, 1)}) == {}
    nothing = score_sums(np.zeros((0, 1)), np.zeros(0, int))
    assert scored(nothing) == {}
    one_class = scored(score_sums(np.zeros((4, 1)), np.ones(4, int)))
    assert set(one_class) == {"loss"}
    broken = score_sums(np.array([[np.nan], [1.0]]), np.array([1, 0]))
    assert scored(broken) == {"not_finite": 1}


def test_with_more_classes_the_auroc_is_the_mean_over_those_that_are_there():
    three = scored(score_sums(np.eye(4)[:3], np.arange(3)))
    assert three["auroc"] == 1_000_000
    assert three["auroc_error"] == pytest.approx(1e6 * (4 / 24) ** 0.5, abs=1)
