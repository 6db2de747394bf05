import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.imaging.resampling import Line, resample, resample_labels


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def lines(shape, spacing, wanted):
    return [
        Line.of(n, spacing_mm=mm, wanted_mm=new)
        for n, mm, new in zip(shape, spacing, wanted, strict=True)
    ]


def test_finer_is_what_the_linear_interpolation_of_simpleitk_gives_inside():
    values = random(7, 9, 5)
    found, valid = resample(values, lines(values.shape, (2, 2, 3), (0.7, 1.3, 3)))
    image = SimpleITK.GetImageFromArray(values.transpose(2, 1, 0))
    image.SetSpacing((2.0, 2.0, 3.0))
    size = found.shape
    centre = [(n - 1) / 2 * mm for n, mm in zip(values.shape, (2, 2, 3), strict=True)]
    origin = [c - (n - 1) / 2 * mm for c, n, mm in zip(centre, size, (0.7, 1.3, 3), strict=True)]
    grid = SimpleITK.Resample(
        image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, origin, (0.7, 1.3, 3.0)
    )
    expected = SimpleITK.GetArrayFromImage(grid).transpose(2, 1, 0)
    inside = (slice(2, -2), slice(2, -2), slice(None))
    assert valid is None
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)


def test_coarser_by_a_whole_factor_is_the_mean_of_blocks():
    values = random(12, 8, 6)
    found, _ = resample(values, lines(values.shape, (1, 1, 1), (3, 2, 1)))
    blocks = values.reshape(4, 3, 4, 2, 6).mean(axis=(1, 3))
    np.testing.assert_allclose(found, blocks, atol=1e-6)


def test_a_stripe_pattern_is_averaged_away_and_not_turned_into_another_pattern():
    stripes = np.tile([0.0, 1.0], 60).astype(np.float32)[:, None] * np.ones(4, np.float32)
    found, _ = resample(stripes, lines(stripes.shape, (1, 1), (3.7, 1)))
    assert np.abs(found - 0.5).max() < 0.15


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40), step=st.floats(0.2, 30), offset=st.floats(-5, 5), slope=st.floats(-3, 3)
)
def test_a_constant_stays_and_all_results_lie_between_lowest_and_highest(n, step, offset, slope):
    line = Line.of(n, spacing_mm=1.0, wanted_mm=step)
    ramp = (offset + slope * np.arange(n)).astype(np.float32)[:, None]
    found, _ = resample(ramp, [line])
    assert len(found) == max(1, round(n / step)) and found.flags.c_contiguous
    slack = 1e-4 * (1 + np.abs(ramp).max())
    assert ramp.min() - slack <= found.min() <= found.max() <= ramp.max() + slack
    for _, weight in [line.taps()[0]]:
        assert weight.min() >= 0
    total = sum(weight for _, weight in line.taps())
    np.testing.assert_allclose(total, 1, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_how_an_array_lies_in_memory_changes_no_bit(order, flips):
    values = random(9, 6, 7)
    stored = np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    stored = np.ascontiguousarray(stored[turn])[turn]
    grid = lines(values.shape, (1, 1, 2), (1.7, 0.6, 2.5))
    np.testing.assert_array_equal(resample(stored, grid)[0], resample(values, grid)[0])


@pytest.mark.parametrize("wanted", [0.6, 1.0, 2.3])
def test_what_is_not_valid_counts_for_nothing_and_its_value_does_not_matter(wanted):
    values = random(20, 12)
    valid = np.ones(values.shape, bool)
    valid[:7] = valid[:, :2] = False
    grid = lines(values.shape, (1, 1), (wanted, wanted))
    ones = [resample(np.where(valid, values, junk), grid, valid) for junk in (-2000.0, 4e6)]
    (one, where), (other, _) = ones
    np.testing.assert_array_equal(one, other)
    assert where is not None and 0 < where.mean() < 1
    assert np.abs(one[where]).max() <= np.abs(values).max() + 1e-5
    assert where.mean() == pytest.approx(valid.mean(), abs=0.12)


def test_labels_keep_their_values_and_come_from_the_nearest_pixel():
    labels = np.array([[0, 0, 3, 3, 7, 7]], np.uint8)
    finer = resample_labels(labels, lines(labels.shape, (1, 1), (1, 0.5)))
    np.testing.assert_array_equal(finer[0], np.repeat(labels[0], 2))
    coarser = resample_labels(labels, lines(labels.shape, (1, 1), (1, 2)))
    np.testing.assert_array_equal(coarser[0], [0, 3, 7])


def test_nothing_passed_in_is_changed_and_the_result_is_new():
    values = random(5, 5)
    before, valid = values.copy(), values > 0
    same, where = resample(values, lines(values.shape, (1, 1), (1, 1)), valid)
    same += 1
    assert where is not None
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(where, valid)
