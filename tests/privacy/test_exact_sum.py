import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import UpdateError
from hospitium.privacy.exact_sum import NORM_TOLERANCE, WEIGHT_ONE, ExactSum, scale_for
from hospitium.wire.blob import manifest_of

BLOCK = 1 << 15
LARGE = (1 << 20) + 3 * BLOCK + 17
"""Values of a model that is summed by two threads, in blocks of which the last one is short."""


def delta_of(values, split=2):
    values = np.asarray(values, np.float32)
    return {"a": values[:split].reshape(1, -1), "b": values[split:], "z": np.zeros((0, 3), "f4")}


def normal(size, seed, norm=0.9):
    values = np.random.default_rng(seed).normal(size=size)
    return values * (norm / np.linalg.norm(values))


def exact(delta, max_norm=1.0, max_sites=8):
    return ExactSum(manifest_of(delta), max_norm=max_norm, max_sites=max_sites)


def sum_of(updates, **bounds):
    total = exact(updates[0][0], **bounds)
    for delta, weight in updates:
        total.add(delta, weight=weight)
    return total


def same_bits(left, right):
    return left.keys() == right.keys() and all(
        left[name].tobytes() == right[name].tobytes() for name in left
    )


def slow_mean(updates, *, max_norm=1.0, max_sites=8):
    """Return the mean as the plainest loop over Python's own integers and fractions gives it."""
    scale = Fraction(scale_for(max_norm=max_norm, max_sites=max_sites))
    sum_weight = sum(weight for _, weight in updates)
    mean = {}
    for name, first in updates[0][0].items():
        flat = []
        for at in range(first.size):
            total = 0
            for delta, weight in updates:
                value = Fraction(float(delta[name].reshape(-1)[at]))
                total += round(value * scale * weight / WEIGHT_ONE)  # half to even, as IEEE 754
            flat.append(float(total) / float(scale * sum_weight / WEIGHT_ONE))
        mean[name] = np.array(flat, np.float32).reshape(first.shape)
    return mean


UPDATES = st.lists(
    st.tuples(st.lists(st.floats(-0.25, 0.25, width=32), min_size=5, max_size=5),
              st.integers(1, WEIGHT_ONE)),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(UPDATES)
def test_the_mean_is_that_of_a_slow_loop_over_python_integers_bit_for_bit(rows):
    updates = [(delta_of(values), weight) for values, weight in rows]
    assert same_bits(sum_of(updates).mean(), slow_mean(updates))


@settings(max_examples=100, deadline=None)
@given(UPDATES, st.floats(1e-6, 1e6))
def test_the_mean_errs_by_less_than_half_a_step_for_each_site_and_a_float32_rounding(rows, size):
    updates = [(delta_of(np.array(values) * size), weight) for values, weight in rows]
    mean = sum_of(updates, max_norm=size).mean()
    sum_weight = sum(weight for _, weight in updates)
    step = 1 / scale_for(max_norm=size, max_sites=8)
    for name in mean:
        parts = [delta[name].astype(np.float64) * (w / sum_weight) for delta, w in updates]
        bound = len(parts) * step * WEIGHT_ONE / sum_weight + 1e-7 * np.abs(sum(parts))
        assert (np.abs(mean[name] - sum(parts)) <= bound).all()


@settings(max_examples=50, deadline=None)
@given(UPDATES, st.randoms())
def test_any_order_of_arrival_gives_the_same_bits(rows, random):
    updates = [(delta_of(values), weight) for values, weight in rows]
    shuffled = random.sample(updates, len(updates))
    assert same_bits(sum_of(shuffled).mean(), sum_of(updates).mean())


def large(seed):
    return delta_of(normal(LARGE, seed), split=5 * BLOCK + 3)


def with_value(delta, name, at, value):
    changed = {name: array.copy() for name, array in delta.items()}
    changed[name].reshape(-1)[at] = value
    return changed


def test_a_large_model_summed_by_two_threads_equals_a_sum_of_its_parts():
    updates = [(large(seed), WEIGHT_ONE // (seed + 1)) for seed in range(3)]
    mean = sum_of(updates).mean()
    for begin in (0, 5 * BLOCK + 3 - 2, LARGE // 2 - 3, LARGE - 5):
        values = [np.concatenate([d["a"].reshape(-1), d["b"]])[begin:][:5] for d, _ in updates]
        small = slow_mean([(delta_of(v), w) for v, (_, w) in zip(values, updates, strict=True)])
        found = np.concatenate([mean["a"].reshape(-1), mean["b"]])[begin:][:5]
        assert same_bits(delta_of(found), small)


REFUSED = {
    "a NaN in the first block": ("a", 0, np.nan, "non_finite"),
    "a NaN in the last block": ("b", -1, np.nan, "non_finite"),
    "an infinity in the middle": ("b", LARGE // 2, -np.inf, "non_finite"),
    "a norm found too long in the last block": ("b", -1, 3.0, "norm"),
    "a norm found too long in the first block": ("a", 0, -1e30, "norm"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_large_update_is_as_if_it_had_never_been_sent(what):
    name, at, value, reason = REFUSED[what]
    total, before = exact(large(0)), sum_of([(large(0), WEIGHT_ONE)]).mean()
    total.add(large(0), weight=WEIGHT_ONE)
    with pytest.raises(UpdateError) as caught:
        total.add(with_value(large(1), name, at, value), weight=WEIGHT_ONE // 3)
    assert caught.value.reason == reason
    assert total.sum_weight == WEIGHT_ONE
    assert same_bits(total.mean(), before)


def test_a_norm_too_long_only_over_both_threads_together_is_taken_out_of_both():
    """Each half is within the bound on its own; both were added in full before they are known."""
    total = exact(large(0), max_norm=1.0)
    with pytest.raises(UpdateError) as caught:
        total.add(delta_of(normal(LARGE, 3, norm=1.2), split=5 * BLOCK + 3), weight=WEIGHT_ONE)
    assert caught.value.reason == "norm"
    total.add(large(1), weight=7)
    assert same_bits(total.mean(), sum_of([(large(1), 7)]).mean())


@settings(max_examples=100, deadline=None)
@given(
    UPDATES,
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4), st.sampled_from([np.nan, np.inf, 1e9, -2])),
        max_size=4,
    ),
)
def test_refused_updates_in_between_change_no_bit(rows, bad):
    updates = [(delta_of(values), weight) for values, weight in rows]
    total = exact(updates[0][0])
    for number, (delta, weight) in enumerate(updates):
        for at, place, value in bad:
            if at == number:
                with pytest.raises(UpdateError):
                    total.add(
                        delta_of([value if k == place else 0 for k in range(5)]), weight=weight
                    )
        total.add(delta, weight=weight)
    assert same_bits(total.mean(), sum_of(updates).mean())


@pytest.mark.parametrize("max_norm", [1e-6, 1.0, 3.0, 1e6])
def test_a_change_within_float32_rounding_of_the_bound_passes_and_one_beyond_does_not(max_norm):
    total = exact(delta_of(np.zeros(5)), max_norm=max_norm)
    total.add(delta_of(normal(5, 1, norm=max_norm * 1.0009)), weight=1)
    with pytest.raises(UpdateError, match="above the bound"):
        total.add(delta_of(normal(5, 1, norm=max_norm * 1.0011)), weight=WEIGHT_ONE)


@pytest.mark.parametrize("max_sites", [1, 2, 2047, 2048, 2049, 100_000])
@pytest.mark.parametrize("max_norm", [1e-9, 0.7, 1.0, 12345.6])
def test_the_scale_is_the_largest_at_which_nothing_can_overflow(max_norm, max_sites):
    scale = scale_for(max_norm=max_norm, max_sites=max_sites)

    def fits(scale):
        longest = max_norm * NORM_TOLERANCE * scale
        return longest <= 2**51 and longest * max_sites <= 2**62

    assert math.frexp(scale)[0] == 0.5
    assert fits(scale) and not fits(2 * scale)


def test_2048_sites_of_the_largest_values_allowed_do_not_overflow():
    for sign in (1, -1):
        delta = delta_of([sign * 1.0009, 0, 0, 0, 0])
        mean = sum_of([(delta, WEIGHT_ONE)] * 2048, max_sites=2048).mean()
        assert mean["a"][0, 0] == np.float32(sign * 1.0009)


def test_a_site_of_the_smallest_weight_still_counts():
    updates = [(delta_of(np.zeros(5)), WEIGHT_ONE), (delta_of([0.5] * 3 + [0, 0]), 1)]
    assert sum_of(updates).mean()["a"][0, 0] == np.float32(0.5 / (WEIGHT_ONE + 1))


def test_an_empty_model_and_arrays_without_values_have_a_mean():
    for delta in ({}, {"z": np.zeros((3, 0), np.float32)}):
        assert same_bits(sum_of([(delta, 5)]).mean(), delta)


def test_a_model_of_another_dtype_than_float32_cannot_be_summed():
    with pytest.raises(TypeError, match="float32"):
        exact({"w": np.zeros(2)})


def test_a_view_that_is_not_contiguous_counts_by_its_values():
    turned = {"w": np.asfortranarray(normal(12, 2).astype(np.float32).reshape(3, 4))}
    plain = {"w": np.ascontiguousarray(turned["w"])}
    assert same_bits(sum_of([(turned, 9)]).mean(), sum_of([(plain, 9)]).mean())
