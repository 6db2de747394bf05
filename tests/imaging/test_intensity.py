import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.imaging.intensity import (
    about,
    between,
    otsu,
    percentile_levels,
    percentiles,
    zscore_levels,
)

DRAW = np.random.default_rng(3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-3000, 3000), min_size=1, max_size=80),
    st.lists(st.floats(0, 100), min_size=1, max_size=4),
    st.sampled_from([1.0, 0.3774114, 1e5]),
)
def test_percentiles_of_counted_and_of_partitioned_values_are_exact(values, shares, scale):
    array = (np.array(values) * np.float32(scale)).astype(np.float32)
    found = percentiles(array, None, shares)
    np.testing.assert_allclose(found, np.percentile(array.astype(np.float64), shares), rtol=1e-12)


def test_many_values_of_many_blocks_give_the_same_percentiles():
    values = DRAW.normal(300, 80, (700, 900)).round().astype(np.float32)
    valid = DRAW.random(values.shape) < 0.7
    expected = np.percentile(values[valid].astype(np.float64), (1, 50, 99))
    np.testing.assert_array_equal(percentiles(values, valid, (1, 50, 99)), expected)
    np.testing.assert_allclose(
        percentiles(values + np.float32(0.25), valid, (1, 50, 99)), expected + 0.25, rtol=1e-12
    )


def test_without_a_valid_value_there_is_no_percentile_and_the_range_serves():
    none = np.zeros((3, 3), bool)
    assert percentiles(np.ones((3, 3)), none, (1, 99)) is None
    levels = percentile_levels(np.ones((3, 3)), none, shares=(1, 99), ends=(0, 4))
    np.testing.assert_array_equal(levels.of(np.array([0, 1, 4])), [0, 0.25, 1])


def test_otsu_parts_two_heaps_in_the_middle_of_their_gap():
    heaps = np.concatenate([DRAW.normal(50, 8, 4000), DRAW.normal(180, 12, 1500)])
    threshold = otsu(heaps.astype(np.float32), None)
    assert 95 < threshold < 130
    best = max(np.linspace(60, 160, 200), key=lambda at: _between_classes(heaps, at))
    assert _between_classes(heaps, threshold) >= 0.999 * _between_classes(heaps, best)


def _between_classes(values, at):
    low, high = values[values <= at], values[values > at]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2


def test_a_z_score_is_of_the_valid_foreground_only():
    image = np.zeros((40, 40), np.float32)
    image[10:30, 10:30] = DRAW.normal(500, 20, (20, 20))
    image[0] = 60_000
    valid = image < 50_000
    levels = zscore_levels(image, valid)
    foreground = levels.of(image[10:30, 10:30])
    assert foreground.mean() == pytest.approx(0, abs=1e-4)
    assert foreground.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 37.0])
def test_a_z_score_does_not_depend_on_the_scanners_scale_and_offset(scale):
    image = DRAW.gamma(2.0, 100.0, (30, 30)).astype(np.float32)
    plain = zscore_levels(image, None).of(image)
    other = image * np.float32(scale)
    np.testing.assert_allclose(zscore_levels(other, None).of(other), plain, atol=2e-4)


def test_a_constant_image_has_a_finite_z_score():
    flat = np.full((5, 5), 7, np.float32)
    assert np.isfinite(zscore_levels(flat, None).of(flat)).all()
    assert np.isfinite(zscore_levels(flat, np.zeros((5, 5), bool)).of(flat)).all()


def test_a_window_is_cut_off_at_both_ends():
    hu = np.array([-2000, -1000, -300, 400, 3000], np.float32)
    np.testing.assert_allclose(between(-1000, 400).of(hu), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_pooled_values_are_clipped_first_and_then_of_mean_0_and_standard_deviation_1():
    hu = np.array([-2000, -100, 60, 220, 3000], np.float32)
    found = about(60, 80, window=(-100, 220)).of(hu)
    np.testing.assert_allclose(found, [-2, -2, 0, 2, 2], atol=1e-6)


def test_levels_are_put_in_place_as_they_are_made_anew():
    values = DRAW.normal(size=(6, 5)).astype(np.float32)
    levels = between(-1, 1)
    np.testing.assert_array_equal(levels.of(values), levels.put(values.copy()))
