from __future__ import annotations

import numpy as np
import pytest

from hospitium.testing.scanners import ScannerShift, apply, draw_shift, gaussian_blur

NONE = ScannerShift(gain=1, offset=0, gamma=1, blur_px=0, noise=0)


def images(num: int = 6) -> np.ndarray:
    return np.random.default_rng(0).random((num, 2, 9, 12), dtype=np.float32)


def test_a_shift_stays_within_what_is_agreed() -> None:
    shifts = [draw_shift(seed, f"site-{site}") for seed in range(20) for site in range(20)]
    assert all(0.85 <= shift.gain <= 1.15 and abs(shift.offset) <= 0.05 for shift in shifts)
    assert all(0.85 <= shift.gamma <= 1.18 and 0 <= shift.blur_px <= 0.6 for shift in shifts)
    assert {shift.noise for shift in shifts} == {0.02}
    assert abs(np.median([shift.gamma for shift in shifts]) - 1) < 0.03
    assert len(set(shifts)) == 400


def test_a_shift_depends_on_seed_and_site_alone() -> None:
    assert draw_shift(1, "site-1") == draw_shift(1, "site-1")


def test_no_shift_changes_nothing_and_returns_a_new_array() -> None:
    before = images()
    after = apply(NONE, before, 3)
    assert np.array_equal(after, before)
    assert not np.shares_memory(after, before)


def test_results_do_not_depend_on_batching() -> None:
    shift = draw_shift(1, "site-1")
    at_once = apply(shift, images(), 3)
    parts = [apply(shift, images()[i : i + 2], 3, first=i) for i in (0, 2, 4)]
    assert np.array_equal(at_once, np.concatenate(parts))


def test_values_stay_in_range_whatever_the_shift() -> None:
    shift = ScannerShift(gain=3, offset=-1, gamma=0.5, blur_px=0.6, noise=1)
    shifted = apply(shift, images(), 3)
    assert shifted.dtype == np.float32
    assert shifted.shape == images().shape
    assert shifted.min() == 0
    assert shifted.max() == 1


def test_gain_offset_and_gamma_follow_their_formula() -> None:
    shift = ScannerShift(gain=0.9, offset=0.04, gamma=1.1, blur_px=0, noise=0)
    expected = np.clip(0.9 * images().astype(np.float64) ** 1.1 + 0.04, 0, 1)
    np.testing.assert_allclose(apply(shift, images(), 3), expected, atol=1e-6)


def test_the_noise_has_the_scale_that_it_says() -> None:
    shift = ScannerShift(gain=1, offset=0, gamma=1, blur_px=0, noise=0.02)
    flat = np.full((4, 1, 100, 100), 0.5, dtype=np.float32)
    assert (apply(shift, flat, 3) - flat).std() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("sigma_px", [0.3, 0.6, 2.5])
def test_the_blur_equals_a_slow_plain_loop(sigma_px: float) -> None:
    image = images(1)[0, 0]
    radius = int(np.ceil(4 * sigma_px))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    padded = np.pad(image.astype(np.float64), radius, mode="symmetric")
    expected = np.zeros_like(image, dtype=np.float64)
    for i, row in enumerate(weights):
        for j, column in enumerate(weights):
            expected += row * column * padded[i : i + 9, j : j + 12]
    blurred = gaussian_blur(image, sigma_px=sigma_px)
    np.testing.assert_allclose(blurred, expected / weights.sum() ** 2, atol=1e-6)
