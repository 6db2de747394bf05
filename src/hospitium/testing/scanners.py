"""Simulated scanners: the same scene as another site's equipment would have stored it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.randomness import rng

Images: TypeAlias = npt.NDArray[np.float32]

_GAIN = 0.15
_OFFSET = 0.05
_GAMMA = (0.85, 1.18)
_MAX_BLUR_PX = 0.6
_NOISE = 0.02
_FAINTEST_BLUR_PX = 0.05  # the neighbours' weight is below 1e-80: not worth the pass


@dataclass(frozen=True, kw_only=True)
class ScannerShift:
    """What one site's equipment does to an image in [0, 1], in the order blur to noise.

    Attributes:
        gain: Factor on the values after ``gamma``.
        offset: Added after ``gain``, in units of the range.
        gamma: Exponent of the contrast curve; > 0.
        blur_px: Standard deviation of a Gaussian blur, in pixels; 0 is none.
        noise: Standard deviation of the noise, in units of the range; 0 is none.
    """

    gain: float
    offset: float
    gamma: float
    blur_px: float
    noise: float


def draw_shift(seed: int, site_id: str) -> ScannerShift:
    """Draw the fixed shift of a site; it depends on the seed and the site's name alone.

    Gain is uniform in 1 +- 0.15, offset in +- 0.05, blur in 0 to 0.6 px; gamma is log-uniform in
    0.85 to 1.18, so that darker and brighter are equally likely. The noise is always 0.02.
    """
    draw = rng(seed, "scanner", site_id)
    return ScannerShift(
        gain=float(draw.uniform(1 - _GAIN, 1 + _GAIN)),
        offset=float(draw.uniform(-_OFFSET, _OFFSET)),
        gamma=math.exp(draw.uniform(math.log(_GAMMA[0]), math.log(_GAMMA[1]))),
        blur_px=float(draw.uniform(0, _MAX_BLUR_PX)),
        noise=_NOISE,
    )


def apply(shift: ScannerShift, images: Images, seed: int, *, first: int = 0) -> Images:
    """Return images as this scanner would have stored them, clipped to [0, 1].

    The noise of an image depends on the seed and on its position, never on its neighbours:
    ``apply(shift, images[8:], seed, first=8)`` equals ``apply(shift, images, seed)[8:]``.

    Args:
        shift: The scanner.
        images: ``(case, channel, row, column)`` in [0, 1]; not changed.
        seed: Of the noise; different for each site.
        first: Position of the first image in its site.
    """
    shifted = np.empty(images.shape, dtype=np.float32)
    for index, image in enumerate(images):
        values = np.power(gaussian_blur(image, sigma_px=shift.blur_px), np.float32(shift.gamma))
        values *= np.float32(shift.gain)
        values += np.float32(shift.offset)
        if shift.noise > 0:
            noise = rng(seed, "scanner-noise", first + index)
            values += shift.noise * noise.standard_normal(image.shape, dtype=np.float32)
        np.clip(values, 0, 1, out=shifted[index])
    return shifted


def gaussian_blur(images: Images, *, sigma_px: float) -> Images:
    """Blur the last two axes with a Gaussian cut at 4 sigma; edges are reflected (``a|abc|c``).

    A constant image stays as it is. Returns float32 of the same shape, always a new array.
    """
    if sigma_px < _FAINTEST_BLUR_PX:
        return images.astype(np.float32)
    radius = max(1, math.ceil(4 * sigma_px))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * np.square(offsets / sigma_px))
    kernel /= kernel.sum()
    blurred = images.astype(np.float32)
    for axis in (-2, -1):
        blurred = _convolve(blurred, kernel, axis=axis)
    return blurred


def _convolve(images: Images, kernel: npt.NDArray[np.float64], *, axis: int) -> Images:
    """Convolve one axis with a symmetric kernel of odd length."""
    radius = len(kernel) // 2
    padding = [(0, 0)] * images.ndim
    padding[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(images, padding, mode="symmetric"), axis, 0)
    length = images.shape[axis]
    total = np.float32(kernel[radius]) * padded[radius : radius + length]
    for shift in range(1, radius + 1):
        pair = padded[radius - shift :][:length] + padded[radius + shift :][:length]
        total += np.float32(kernel[radius + shift]) * pair
    return np.moveaxis(total, 0, axis)
