"""A subject's chest from a handful of numbers, and how it stood in front of the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hospitium.testing.phantoms.fields import Image, axes, smooth_field, step


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What stays the same between two studies of a subject.

    Lengths are in half image widths; y points to the feet and 0 is the middle of the image.
    """

    body_half_width: float
    thickness: float
    lung_half_width: float
    lung_spread: float
    apex_y: float
    heart_half_width: float
    heart_tilt: float
    spine_half_width: float
    bone: float
    rib_spacing: float
    rib_slope: float
    clavicle_slope: float
    breast: float
    breast_y: float
    vessels: float


def draw_anatomy(draw: np.random.Generator) -> Anatomy:
    """Draw a subject: slim or stout, long or short lungs, small or large heart."""
    return Anatomy(
        body_half_width=draw.uniform(0.82, 1.0),
        thickness=draw.uniform(2.4, 4.2),
        lung_half_width=draw.uniform(0.27, 0.34),
        lung_spread=draw.uniform(0.37, 0.43),
        apex_y=draw.uniform(-0.82, -0.66),
        heart_half_width=draw.uniform(0.17, 0.32),
        heart_tilt=draw.uniform(0.1, 0.5),
        spine_half_width=draw.uniform(0.07, 0.11),
        bone=draw.uniform(0.6, 1.4),
        rib_spacing=draw.uniform(0.15, 0.2),
        rib_slope=draw.uniform(0.15, 0.5),
        clavicle_slope=draw.uniform(0.05, 0.3),
        breast=max(0.0, draw.uniform(-0.25, 0.3)),
        breast_y=draw.uniform(0.2, 0.45),
        vessels=draw.uniform(0.6, 1.6),
    )


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One exposure: coordinates in the body, how deep the breath, how turned the subject.

    ``u`` and ``v`` are ``(row, column)``: across and down the body, as ``Anatomy`` counts them.
    """

    u: Image
    v: Image
    base_y: float
    turn: float


def draw_pose(draw: np.random.Generator, *, size: int) -> Pose:
    """Draw how the subject stood: shifted, tilted, nearer or farther, breathed in more or less."""
    x, y = axes(size)
    angle = draw.uniform(-0.1, 0.1)
    scale = draw.uniform(0.72, 0.92)
    u = scale * (x + angle * y) + draw.uniform(-0.09, 0.09)
    v = scale * (y - angle * x) + draw.uniform(-0.09, 0.09)
    u += 0.02 * smooth_field(draw, size=size, cells=5)
    v += 0.02 * smooth_field(draw, size=size, cells=5)
    return Pose(
        u=u.astype(np.float32),
        v=v.astype(np.float32),
        base_y=draw.uniform(0.3, 0.6),
        turn=draw.uniform(-1, 1),
    )


def lung(anatomy: Anatomy, pose: Pose, *, side: int) -> tuple[Image, Image]:
    """Return the depth of air in one lung, 0 to about 1, and ``across``: -1 to 1 over its width.

    Args:
        anatomy: Of the subject.
        pose: Of the exposure.
        side: -1 for the right lung (left in the image), 1 for the left lung.
    """
    base_y = pose.base_y + 0.04 * side
    height = base_y - anatomy.apex_y
    down = (pose.v - anatomy.apex_y) * (1 / height)
    taper = 0.5 + np.clip(down, 0, 1) * (0.95 - 0.45 * down)
    half_width = anatomy.lung_half_width * (1 + 0.08 * pose.turn * side)
    centre = side * (anatomy.lung_spread + 0.06 * (taper - 1))
    across = (pose.u - centre) / (half_width * taper)
    squared = np.square(across)
    top = np.square(np.clip(1 - 3 * down, 0, None))
    chord = np.sqrt(np.clip(1 - squared - top, 0, None))
    dome = 1 + 0.16 * (squared - 0.55)
    return chord * step(dome - down, width=0.02), across


def heart(anatomy: Anatomy, pose: Pose) -> Image:
    """Return how much of the air the heart and great vessels displace, 0 to 1."""
    centre_x = 0.09 + 0.05 * pose.turn
    centre_y = pose.base_y - 0.75 * anatomy.heart_half_width - 0.04
    du = pose.u - centre_x
    dv = pose.v - centre_y
    along = du + anatomy.heart_tilt * dv
    across = dv - anatomy.heart_tilt * du
    radius = anatomy.heart_half_width
    inside = 1 - np.square(along / (1.15 * radius)) - np.square(across / radius)
    hila = 1 - np.square((pose.u - 0.02) / 0.15)
    hila -= np.square((pose.v + 0.12) / 0.4)
    return np.asarray(np.maximum(step(inside, width=0.18), 0.7 * step(hila, width=0.5)))


def bones(anatomy: Anatomy, pose: Pose) -> Image:
    """Return what spine, ribs and clavicles add to the attenuation, ``(row, column)``."""
    u, v = pose.u, pose.v
    turned = u - 0.04 * pose.turn
    spine = step(anatomy.spine_half_width - np.abs(turned), width=0.03)
    spine *= 0.75 + 0.12 * np.sin(v * (2 * np.pi / 0.13))
    away = np.abs(u)
    cage = step(anatomy.lung_spread + anatomy.lung_half_width + 0.03 - away, width=0.05)
    cage *= step(away - 0.1, width=0.06)
    cage *= step(v - anatomy.apex_y, width=0.1)
    cage *= step(pose.base_y + 0.25 - v, width=0.2)
    turns = 2 * np.pi / anatomy.rib_spacing
    arch = np.square(away - 0.42) * 1.2
    back = np.cos(turns * (v + arch - 0.3 * anatomy.rib_slope * away))
    front = np.cos(turns * 0.85 * (v - anatomy.rib_slope * away - 2 * arch))
    ribs = step(back - 0.35, width=0.35)
    ribs += 0.7 * step(front - 0.5, width=0.35)
    collar = v - (anatomy.apex_y + 0.14) + anatomy.clavicle_slope * (away - 0.3)
    clavicles = step(0.028 - np.abs(collar), width=0.012)
    clavicles *= step(away - 0.08, width=0.03)
    return anatomy.bone * (0.5 * spine + 0.16 * ribs * cage + 0.3 * clavicles)
