import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.algorithms.norm_bound import NUM_BINS, is_norm_sum, next_bound, norm_bin, norm_sum

NORMS = st.floats(1e-8, 1e8)


@given(st.lists(NORMS, min_size=1, max_size=20))
def test_the_bound_is_a_factor_times_the_median_within_five_percent(norms):
    bound = next_bound([norm_sum(norm) for norm in norms], factor=1.5, fallback=9.0)
    median = sorted(norms)[(len(norms) - 1) // 2]
    assert bound == pytest.approx(1.5 * median, rel=0.05)


@given(st.lists(NORMS, min_size=2, max_size=9))
def test_it_does_not_matter_in_which_round_a_norm_was_seen(norms):
    rounds = [norm_sum(norm) for norm in norms]
    together = [sum(column) for column in zip(*rounds, strict=True)]
    bound = next_bound(rounds, factor=2.0, fallback=1.0)
    assert next_bound([together], factor=2.0, fallback=1.0) == bound


def test_before_any_norm_was_seen_the_bound_is_the_plans():
    assert next_bound([], factor=1.5, fallback=10.0) == 10.0
    assert next_bound([(0,) * NUM_BINS], factor=1.5, fallback=10.0) == 10.0


@given(NORMS, NORMS)
def test_bins_are_in_the_order_of_norms(one, other):
    assert (norm_bin(one) <= norm_bin(other)) == (one <= other) or norm_bin(one) == norm_bin(other)


def test_the_bins_are_open_at_both_ends():
    assert norm_bin(0.0) == norm_bin(5e-324) == norm_bin(2.0**-32) == 0
    assert norm_bin(2.0**32) == norm_bin(1e308) == NUM_BINS - 1
    assert norm_bin(1.0) == NUM_BINS // 2


def test_a_site_has_one_voice_in_the_median():
    good = norm_sum(3.0)
    assert is_norm_sum(good) and sum(good) == 1
    twice = tuple(np.array(good) * 2)
    borrowed = (1, 1, -1, *good[3:])
    for bad in (good[1:], (*good, 0), twice, borrowed, (0,) * NUM_BINS, ()):
        assert not is_norm_sum(bad)
