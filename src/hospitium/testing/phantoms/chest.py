"""One chest radiograph as physics sees it: how much of the beam each ray loses."""

from __future__ import annotations

import numpy as np

from hospitium.testing.phantoms import findings
from hospitium.testing.phantoms.anatomy import (
    Anatomy,
    Pose,
    bones,
    draw_anatomy,
    draw_pose,
    heart,
    lung,
)
from hospitium.testing.phantoms.fields import Image, smooth_field

_AIR_SHARE = 0.66  # of the chest's depth, in the middle of a lung


def draw_chest(
    draw: np.random.Generator,
    *,
    size: int,
    has_pneumonia: bool,
    anatomy: Anatomy | None = None,
) -> Image:
    """Draw the log attenuation of a frontal chest radiograph, ``(row, column)`` float32, >= 0.

    Everything but the pneumonia is drawn alike for both classes: markings, scars, breast shadows,
    devices, a side marker, a collimator, a turned subject. Subject's right is at the left.

    Args:
        draw: Where the randomness comes from.
        size: Rows and columns, 64 to 2,048.
        has_pneumonia: Whether a consolidation fills part of a lung (sometimes two parts).
        anatomy: Of a subject who has several studies; drawn if there is none.
    """
    anatomy = anatomy or draw_anatomy(draw)
    pose = draw_pose(draw, size=size)
    markings = 1 - findings.lung_markings(draw, anatomy, size=size)
    if draw.random() < 0.4:
        markings -= draw.uniform(0.1, 0.4) * findings.streak(draw, pose)
    markings *= 1 - 0.95 * heart(anatomy, pose)
    air = _air(draw, anatomy, pose, has_pneumonia=has_pneumonia) * markings
    body = _body(draw, anatomy, pose) * (1 - _AIR_SHARE * air)
    body += bones(anatomy, pose)
    body += findings.breasts(draw, anatomy, pose)
    body += findings.device(draw, pose)
    body += 3 * findings.side_marker(draw, size=size)
    body += 6 * findings.collimator(draw, size=size)
    return np.asarray(np.clip(body, 0, None), dtype=np.float32)


def _body(draw: np.random.Generator, anatomy: Anatomy, pose: Pose) -> Image:
    """Return the attenuation of the trunk as if it were all soft tissue."""
    shoulders = anatomy.body_half_width * (1 + 0.12 * np.clip(-pose.v, 0, None))
    chord = np.sqrt(np.clip(1 - np.square(np.square(pose.u / shoulders)), 0, None))
    uneven = 1 + 0.05 * smooth_field(draw, size=len(chord), cells=3)
    uneven += 0.08 * pose.turn * pose.u + draw.uniform(-0.1, 0.2) * pose.v
    return np.asarray(anatomy.thickness * chord * uneven)


def _air(draw: np.random.Generator, anatomy: Anatomy, pose: Pose, *, has_pneumonia: bool) -> Image:
    """Return the depth of air on each ray, 0 to about 1, with or without a consolidation."""
    ill = _sides(draw, share_of_both=0.15) if has_pneumonia else ()
    massed = _sides(draw, share_of_both=0.1) if draw.random() < 0.4 else ()
    total = np.zeros_like(pose.u)
    down = (pose.v - anatomy.apex_y) * (1 / (pose.base_y - anatomy.apex_y))
    for side in (-1, 1):
        depth, across = lung(anatomy, pose, side=side)
        if side in ill:
            depth *= 1 - findings.consolidation(draw, across=across, down=down)
        if side in massed:
            depth *= 1 - findings.nodule(draw, across=across, down=down)
        total += depth
    return total


def _sides(draw: np.random.Generator, *, share_of_both: float) -> tuple[int, ...]:
    """Draw one lung, or sometimes both."""
    if draw.random() < share_of_both:
        return (-1, 1)
    return (-1,) if draw.random() < 0.5 else (1,)
