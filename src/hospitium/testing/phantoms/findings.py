"""What is to be found, a consolidation, and what is to be ignored: masses, markers, devices."""

from __future__ import annotations

import math

import numpy as np

from hospitium.testing.phantoms.anatomy import Anatomy, Pose
from hospitium.testing.phantoms.fields import Image, bump, smooth_field, step


def consolidation(
    draw: np.random.Generator, *, across: Image, down: Image, lesion_size: float = 1.0
) -> Image:
    """Draw the share of air that a pneumonia replaces in one lung, 0 to about 0.9.

    A soft, patchy spot of any size between a segment and a lobe, anywhere in the lung.

    Args:
        draw: Where the randomness comes from.
        across: -1 to 1 over the width of the lung, ``(row, column)``.
        down: 0 at the apex to 1 at the diaphragm, ``(row, column)``.
        lesion_size: Factor on its width and height.
    """
    size = len(down)
    centre = (draw.uniform(-0.6, 0.6), draw.uniform(0.2, 0.9))
    radius = draw.uniform(0.6, 1.1) * lesion_size
    squash = math.exp(draw.uniform(-0.35, 0.35))
    density = draw.uniform(0.7, 1.0)
    du = (across - centre[0]) * (squash / radius)
    dv = (down - centre[1]) * (2.3 / (squash * radius))
    distance = np.square(du) + np.square(dv)
    distance *= np.exp(0.35 * smooth_field(draw, size=size, cells=9))
    patches = 0.6 + 0.55 * smooth_field(draw, size=size, cells=28)
    return np.asarray(np.clip(density * bump(np.square(distance)) * patches, 0, 0.95))


def nodule(draw: np.random.Generator, *, across: Image, down: Image) -> Image:
    """Draw the share of air that a smooth round mass replaces, 0 to about 0.9: not a pneumonia.

    It is as dense as a consolidation and lies in the same places, so that brightness alone does
    not tell them apart; its even inside and clear border do. ``across`` and ``down`` as there.
    """
    du = (across - draw.uniform(-0.6, 0.6)) * (1 / draw.uniform(0.25, 0.6))
    dv = (down - draw.uniform(0.2, 0.9)) * (2.3 / draw.uniform(0.25, 0.6))
    inside = np.clip(1 - np.square(du) - np.square(dv), 0, None)
    return np.asarray(draw.uniform(0.4, 0.9) * np.sqrt(inside))


def effusion(draw: np.random.Generator, *, across: Image, down: Image) -> Image:
    """Draw the share of air that fluid at the bottom of one lung replaces, 0 to 1.

    Its level is at 12 to 30 % of the lung's height and rises towards the chest wall.
    ``across`` and ``down`` as in `consolidation`.
    """
    level = 1 - draw.uniform(0.12, 0.3) - 0.12 * np.square(across)
    return step(down - level, width=0.04)


def lung_markings(draw: np.random.Generator, anatomy: Anatomy, *, size: int) -> Image:
    """Draw what vessels and interstitium take of the air: a texture of mean 0, both lungs."""
    coarse = smooth_field(draw, size=size, cells=11)
    fine = smooth_field(draw, size=size, cells=34)
    haze = smooth_field(draw, size=size, cells=5)
    return np.asarray(anatomy.vessels * (0.05 * coarse + 0.04 * fine + 0.03 * haze))


def streak(draw: np.random.Generator, pose: Pose) -> Image:
    """Draw a thin flat scar or plate atelectasis, 0 to 1; it is not a pneumonia."""
    slope = draw.uniform(-0.4, 0.4)
    centre_u = _side(draw) * draw.uniform(0.25, 0.55)
    centre_v = draw.uniform(-0.2, 0.45)
    line = pose.v - centre_v - slope * (pose.u - centre_u)
    reach = np.square((pose.u - centre_u) * (1 / draw.uniform(0.08, 0.2)))
    return bump(np.square(line * (1 / 0.018)) + reach)


def breasts(draw: np.random.Generator, anatomy: Anatomy, pose: Pose) -> Image:
    """Return what breast tissue adds to the attenuation; rarely the same on both sides."""
    total = np.zeros_like(pose.u)
    if anatomy.breast == 0:
        return total
    for side in (-1, 1):
        du = (pose.u - side * draw.uniform(0.42, 0.52)) * (1 / 0.33)
        dv = (pose.v - anatomy.breast_y) * (1 / 0.3)
        inside = step(1 - np.square(du) - np.square(dv), width=0.5)
        total += anatomy.breast * draw.uniform(0.7, 1.3) * inside
    return total


def device(draw: np.random.Generator, pose: Pose) -> Image:
    """Draw a pacemaker with its lead, or a tube: dense, sharp-edged, in every fourth study."""
    kind = draw.random()
    if kind > 0.25:
        return np.zeros_like(pose.u)
    if kind > 0.1:  # a tube or line, from the neck down
        bend = draw.uniform(-0.25, 0.25)
        line = pose.u - bend * np.square(pose.v + 1) - draw.uniform(-0.1, 0.1)
        tube = step(0.012 - np.abs(line), width=0.008)
        return tube * step(draw.uniform(-0.3, 0.4) - pose.v, width=0.01)
    centre = _side(draw) * draw.uniform(0.35, 0.5)
    du = np.abs(pose.u - centre) * (1 / 0.11)
    dv = np.abs(pose.v + draw.uniform(0.35, 0.5)) * (1 / 0.09)
    return 1.8 * step(1 - np.power(du, 3) - np.power(dv, 3), width=0.1)


def side_marker(draw: np.random.Generator, *, size: int) -> Image:
    """Draw a lead letter like an L or a T in an upper corner: 0 or 1, sharp."""
    marker = np.zeros((size, size), dtype=np.float32)
    height = max(4, size // 16)
    bar = max(1, size // 96)
    top = int(size * draw.uniform(0.05, 0.12))
    left = int(
        size * (draw.uniform(0.05, 0.12) if draw.random() < 0.5 else draw.uniform(0.82, 0.9))
    )
    upright = left if draw.random() < 0.5 else left + height // 3
    marker[top : top + height, upright : upright + bar] = 1
    foot = top + height - bar if upright == left else top
    marker[foot : foot + bar, left : left + 2 * height // 3] = 1
    return marker


def collimator(draw: np.random.Generator, *, size: int) -> Image:
    """Draw the lead around the exposed field, 0 or 1: each border 0 to 7 % of the image."""
    lead = np.ones((size, size), dtype=np.float32)
    top, bottom, left, right = (int(size * max(0.0, draw.uniform(-0.07, 0.07))) for _ in range(4))
    lead[top : size - bottom, left : size - right] = 0
    return lead


def _side(draw: np.random.Generator) -> int:
    """Draw the right or the left: -1 or 1."""
    return -1 if draw.random() < 0.5 else 1
