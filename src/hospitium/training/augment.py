"""Augmentation suited to radiographs: what another patient's position or scanner could have done.

All of it works on a whole batch at once and is drawn from a generator of its own, so that the
same seed gives the same batch. No vertical flip: a chest is never upside down. No horizontal flip:
the heart has a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of an augmentation; every value is drawn anew for each image.

    Attributes:
        rotate_deg: Rotation about the centre, either way.
        shift: Translation, as a share of the image side, either way.
        zoom: Logarithm of the change of size, either way.
        aspect: Logarithm of a further change of height, either way.
        gamma: Logarithm of the exponent, either way.
        contrast: Logarithm of the change of contrast about the middle of the range, either way.
        brightness: Offset, as a share of the range, either way.
        noise: Largest standard deviation of added noise.
        blur: Blend with a 3x3 binomial blur: the weight is within 1.0 times this about half of it,
            so that some images are sharpened a little.
    """

    rotate_deg: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    aspect: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    blur: float = 0.0


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "radiograph": Augmentation(
        rotate_deg=7, shift=0.07, zoom=0.1, aspect=0.033, gamma=0.25, contrast=0.2, brightness=0.1,
        noise=0.03, blur=0.7,
    ),
    "radiograph_strong": Augmentation(
        rotate_deg=12, shift=0.1, zoom=0.15, aspect=0.05, gamma=0.4, contrast=0.3, brightness=0.15,
        noise=0.05, blur=1.0,
    ),
}  # fmt: skip


def augment(images: torch.Tensor, how: Augmentation, *, generator: torch.Generator) -> torch.Tensor:
    """Return changed copies of ``(case, channel, row, column)`` images in [0, 1], in [0, 1]."""
    moved = _move(images, how, generator)
    blurred = _blur(moved, how, generator)
    return _change_values(blurred, how, generator).clamp_(0, 1)


def _either_way(size: float, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one number in [-size, size] for each image, in the shape that multiplies images."""
    drawn = torch.rand((len(images), 1, 1, 1), generator=generator)
    return ((2 * drawn - 1) * size).to(images.device)


def _move(images: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Rotate, shift and zoom by one bilinear resampling; what comes in at the edge is repeated."""
    angle = _either_way(math.radians(how.rotate_deg), images, generator).flatten()
    wide = torch.exp(_either_way(how.zoom, images, generator).flatten())
    high = wide * torch.exp(_either_way(how.aspect, images, generator).flatten())
    right = _either_way(2 * how.shift, images, generator).flatten()
    down = _either_way(2 * how.shift, images, generator).flatten()
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack(
        [
            torch.stack([wide * cos, -high * sin, right], dim=1),
            torch.stack([wide * sin, high * cos, down], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _blur(images: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Blend each image with a 3x3 binomial blur of it; a negative weight sharpens."""
    if how.blur == 0:
        return images
    side = torch.tensor([0.25, 0.5, 0.25], dtype=images.dtype, device=images.device)
    channels = images.shape[1]
    kernel = (side[:, None] * side).view(1, 1, 3, 3).repeat(channels, 1, 1, 1)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    blurred = functional.conv2d(padded, kernel, groups=channels)
    weight = 0.5 * how.blur + _either_way(how.blur, images, generator)
    return images + weight * (blurred - images)


def _change_values(
    images: torch.Tensor, how: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    """Change gamma, contrast and brightness, and add noise."""
    exponent = torch.exp(_either_way(how.gamma, images, generator))
    changed = images.clamp(1e-3, 1) ** exponent
    gain = torch.exp(_either_way(how.contrast, images, generator))
    changed = (changed - 0.5) * gain + 0.5 + _either_way(how.brightness, images, generator)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return changed + _either_way(how.noise, images, generator) * noise
