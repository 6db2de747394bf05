import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.errors import UsageError
from hospitium.imaging.fitting import fit
from hospitium.imaging.instance import Facts, Instance
from hospitium.imaging.pipeline import Harmonise

FACTS = Facts(
    modality="", manufacturer="", rows=1, columns=1, bits_stored=8, photometric="", spacing_mm=None
)


def instance(
    values: np.ndarray,
    *,
    end: float = 255.0,
    valid: np.ndarray | None = None,
    spacing_mm: tuple[float, float] | None = None,
):
    return Instance(
        values=values[np.newaxis].astype(np.float32),
        range=(0.0, end),
        facts=replace(FACTS, spacing_mm=spacing_mm),
        is_valid=None if valid is None else valid[np.newaxis],
    )


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


def test_the_full_range_of_the_bit_depth_becomes_0_to_1():
    twelve = instance(np.array([[0, 4095], [2047.5, 819]]), end=4095.0)
    result = Harmonise().apply(twelve)
    assert result.shape == (1, 2, 2)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[0], [[0, 1], [0.5, 0.2]], atol=1e-6)


def test_percentiles_are_of_valid_pixels_and_invalid_ones_become_0():
    values = np.arange(101.0).reshape(1, 101)
    valid = values < 100
    result = Harmonise(intensity="percentile", low=0, high=100).apply(
        instance(np.where(valid, values, 9999), valid=valid)
    )
    assert result[0, 0, 99] == 1.0
    assert result[0, 0, 100] == 0.0


def test_equal_percentiles_fall_back_to_all_values_and_a_constant_image_is_0():
    steps = Harmonise(intensity="percentile")
    lonely = np.zeros((20, 20))
    lonely[3, 3] = 50
    assert steps.apply(instance(lonely)).max() == 1.0
    assert steps.apply(instance(np.full((4, 4), 7.0))).max() == 0.0
    assert steps.apply(instance(lonely, valid=np.zeros((20, 20), bool))).max() == 0.0


def test_grey_from_colour_is_itu_r_601_luma_and_colour_from_grey_is_repeated():
    colours = np.eye(3).reshape(1, 3, 3) * 255
    grey = Harmonise().apply(instance(colours))
    np.testing.assert_allclose(grey[0, 0], [0.299, 0.587, 0.114], atol=1e-6)
    colour = Harmonise(channels=3, size=(4, 4)).apply(instance(random(9, 9)))
    assert colour.shape == (3, 4, 4)
    np.testing.assert_array_equal(colour[0], colour[2])


def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks():
    values = random(12, 18)
    blocks = values.reshape(4, 3, 6, 3).mean(axis=(1, 3)) / 255
    result = Harmonise(size=(4, 6)).apply(instance(values))
    np.testing.assert_allclose(result[0], blocks, atol=1e-6)


@given(rows=st.integers(1, 40), out=st.integers(1, 40))
def test_shrinking_keeps_the_mean_and_all_results_stay_in_range(rows, out):
    values = random(rows, rows)
    result = Harmonise(size=(out, out)).apply(instance(values))
    assert 0.0 <= result.min() <= result.max() <= 1.0
    if out <= rows:
        assert result.mean() == pytest.approx(values.mean() / 255, abs=1e-5)


def test_growing_interpolates_between_pixel_centres():
    result = Harmonise(size=(4, 4)).apply(instance(np.array([[0.0, 255.0]] * 2)))
    np.testing.assert_allclose(result[0], [[0, 0.25, 0.75, 1]] * 4, atol=1e-6)


def test_an_oblong_image_is_padded_with_0_about_its_centre():
    result = Harmonise(size=(4, 4)).apply(instance(np.full((8, 4), 255.0)))
    np.testing.assert_array_equal(result[0], [[0, 1, 1, 0]] * 4)


def test_a_long_strip_is_shrunk_before_it_is_padded():
    strip = np.full((3, 40_000), 0.5, np.float32)
    tracemalloc.start()
    result = fit(strip, (224, 224), background=0.0, ends=(0.0, 1.0))
    assert tracemalloc.get_traced_memory()[1] < 20 * strip.nbytes
    tracemalloc.stop()
    assert result.shape == (224, 224)
    assert np.count_nonzero(result) == 224 and result.max() == pytest.approx(0.5, abs=1e-5)


def test_an_image_of_the_right_size_is_only_scaled():
    values = random(5, 5)
    with_size, without = (Harmonise(size=size).apply(instance(values)) for size in ((5, 5), None))
    np.testing.assert_array_equal(with_size, without)
    assert with_size.flags.c_contiguous


def test_nothing_passed_in_is_changed():
    values = random(6, 7).astype(np.float32)
    before = values.copy()
    Harmonise(size=(3, 3)).apply(instance(values, valid=values > 100))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    "wrong", [{"channels": 2}, {"size": (0, 3)}, {"intensity": "window"}, {"low": 99, "high": 1}]
)
def test_impossible_steps_are_refused(wrong):
    with pytest.raises(UsageError, match="Harmonisation"):
        Harmonise(**wrong)


def test_cropping_cuts_or_pads_about_the_centre_and_resizes_nothing():
    values = random(9, 4)
    result = Harmonise(size=(5, 8), resize="crop").apply(instance(values))
    np.testing.assert_array_equal(result[0, :, 2:6], Harmonise().apply(instance(values))[0, 2:7])
    assert (result[0, :, :2] == 0).all() and (result[0, :, 6:] == 0).all()


def test_two_exposures_of_one_object_agree_at_one_spacing():
    fine = np.kron(random(30, 24), np.ones((4, 4)))
    coarse = fine.reshape(60, 2, 48, 2).mean(axis=(1, 3))
    steps = Harmonise(size=(32, 32), resize="crop", spacing_mm=(0.8, 0.8))
    one = steps.apply(instance(fine, spacing_mm=(0.2, 0.2)))
    other = steps.apply(instance(coarse, spacing_mm=(0.4, 0.4)))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("resize", ["fit", "crop"])
@pytest.mark.parametrize("intensity", ["range", "percentile", "zscore"])
def test_background_is_what_is_added_and_what_is_not_valid(resize, intensity):
    values = random(20, 12)
    valid = np.ones(values.shape, bool)
    valid[:10] = False
    steps = Harmonise(size=(24, 24), resize=resize, intensity=intensity, background=-20.0)
    result = steps.apply(instance(values, valid=valid))
    assert (result[0, :, :2] == -20).all() and (result[0, 2:10, 9:15] == -20).all()
    assert result[0, 14:20, 9:15].min() > -20


def test_a_fundus_photograph_is_cut_to_the_square_about_its_field():
    rows, columns = np.mgrid[:80, :120]
    inside = (rows - 45) ** 2 + (columns - 50) ** 2 < 30**2
    photo = np.where(inside[..., None], [200, 90, 40], [3, 2, 4])
    photo[5, 110] = 255
    steps = Harmonise(size=(30, 30), channels=3, crop_field=True)
    result = steps.apply(instance(photo))
    assert result.shape == (3, 30, 30)
    disc = (result[0] > 0.4).mean()
    assert disc == pytest.approx(np.pi / 4, abs=0.04)
    assert (result[0, 15] > 0.4).all() and (result[0, :, 15] > 0.4).all()


def test_a_dark_photograph_without_a_field_stays_whole():
    steps = Harmonise(size=(6, 6), crop_field=True)
    np.testing.assert_array_equal(
        steps.apply(instance(np.zeros((12, 9)))), np.zeros((1, 6, 6), np.float32)
    )
