import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import UpdateError
from hospitium.privacy.clipping import clip, l2_norm


def some_delta(seed=7, size=(3, 1 << 15)):
    draw = np.random.default_rng(seed)
    return {
        "w": draw.normal(size=size).astype(np.float32),
        "b": draw.normal(size=5).astype(np.float32),
        "none": np.zeros((0, 2), np.float32),
    }


def flat(delta):
    return np.concatenate([delta[name].reshape(-1) for name in sorted(delta)]).astype(np.float64)


def test_the_norm_is_that_of_one_flat_vector():
    assert l2_norm(some_delta()) == pytest.approx(math.sqrt(math.fsum(flat(some_delta()) ** 2)))
    assert l2_norm({}) == l2_norm({"w": np.zeros(3, np.float32)}) == 0.0


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(0, 5))
def test_a_clipped_change_has_the_bound_as_norm_and_the_same_direction(max_norm, seed):
    delta = some_delta(seed, size=(3, 20))
    clipped, norm = clip(delta, max_norm=max_norm)
    assert norm == l2_norm(delta)
    assert l2_norm(clipped) <= max_norm * (1 + 1e-6)
    expected = flat(delta) * min(1.0, max_norm / norm)
    np.testing.assert_allclose(flat(clipped), expected, rtol=2e-7)


def test_a_bound_above_the_norm_changes_no_bit():
    delta = some_delta()
    clipped, norm = clip(delta, max_norm=l2_norm(delta))
    assert all(clipped[name] is delta[name] for name in delta)
    assert clip(clipped, max_norm=2 * norm)[0].keys() == delta.keys()


def test_no_change_at_all_stays_no_change():
    clipped, norm = clip({"w": np.zeros(3, np.float32)}, max_norm=1.0)
    assert norm == 0.0 and not clipped["w"].any()


def test_names_shapes_and_dtypes_stay_and_what_came_in_is_not_changed():
    delta = {"a": np.full((2, 2), 3.0, np.float32), "b": np.full(1, 4.0)}
    clipped, _ = clip(delta, max_norm=1.0)
    assert {n: (x.shape, x.dtype) for n, x in clipped.items()} == {
        n: (x.shape, x.dtype) for n, x in delta.items()
    }
    assert delta["a"][0, 0] == 3.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_change_that_is_not_finite_is_refused_and_not_clipped_away(value):
    delta = some_delta()
    delta["w"][-1, -1] = value
    with pytest.raises(UpdateError, match="Lower the learning rate") as caught:
        clip(delta, max_norm=1.0)
    assert caught.value.reason == "non_finite"
