"""One chest radiograph as physics sees it: how much of the beam each ray loses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hospitium.testing.phantoms import findings as brushes
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

_LEAST_DEPTH = 0.1  # of air, for a pixel to count as lung
_LEAST_SHARE = 0.35  # of the air that is lost, for a pixel to count as consolidated
_AIR_SHARE = 0.66  # of the chest's depth, in the middle of a lung


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is to be seen in a radiograph.

    Attributes:
        has_pneumonia: Whether a consolidation fills part of a lung (sometimes of both).
        has_effusion: Whether there is fluid at the bottom of a lung.
        has_cardiomegaly: Whether the heart is a quarter to a half wider than it was.
        lesion_size: Factor on the width and height of a consolidation.
    """

    has_pneumonia: bool = False
    has_effusion: bool = False
    has_cardiomegaly: bool = False
    lesion_size: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Chest:
    """A radiograph as physics sees it, and where the consolidation is.

    Attributes:
        attenuation: ``(row, column)`` float32, >= 0: the log of what each ray loses.
        consolidated: ``(row, column)`` bool: where it replaces a third of the air or more.
        lobe: Where most of it lies, as ``"right lower"``; empty where there is none.
    """

    attenuation: Image
    consolidated: npt.NDArray[np.bool_]
    lobe: str


def draw_chest(
    draw: np.random.Generator,
    *,
    size: int,
    findings: Findings,
    anatomy: Anatomy | None = None,
) -> Chest:
    """Draw a frontal chest radiograph before any detector; the subject's right is at the left.

    Everything but the findings is drawn alike for all: markings, scars, breast shadows,
    devices, a side marker, a collimator, a turned subject.

    Args:
        draw: Where the randomness comes from.
        size: Rows and columns, 64 to 2,048.
        findings: What is to be seen.
        anatomy: Of a subject who has several studies; drawn if there is none.
    """
    aside = draw.spawn(1)[0]  # so that other findings change no other draw
    anatomy = anatomy or draw_anatomy(draw)
    pose = draw_pose(draw, size=size)
    markings = 1 - brushes.lung_markings(draw, anatomy, size=size)
    if draw.random() < 0.4:
        markings -= draw.uniform(0.1, 0.4) * brushes.streak(draw, pose)
    if findings.has_cardiomegaly:
        wider = anatomy.heart_half_width * aside.uniform(1.25, 1.5)
        markings *= 1 - 0.95 * heart(replace(anatomy, heart_half_width=wider), pose)
    else:
        markings *= 1 - 0.95 * heart(anatomy, pose)
    depth, consolidated, lobe = _air(draw, aside, anatomy, pose, findings)
    body = _body(draw, anatomy, pose) * (1 - _AIR_SHARE * (depth * markings))
    body += bones(anatomy, pose)
    body += brushes.breasts(draw, anatomy, pose)
    body += brushes.device(draw, pose)
    body += 3 * brushes.side_marker(draw, size=size)
    body += 6 * brushes.collimator(draw, size=size)
    attenuation = np.asarray(np.clip(body, 0, None), dtype=np.float32)
    return Chest(attenuation=attenuation, consolidated=consolidated, lobe=lobe)


def _body(draw: np.random.Generator, anatomy: Anatomy, pose: Pose) -> Image:
    """Return the attenuation of the trunk as if it were all soft tissue."""
    shoulders = anatomy.body_half_width * (1 + 0.12 * np.clip(-pose.v, 0, None))
    chord = np.sqrt(np.clip(1 - np.square(np.square(pose.u / shoulders)), 0, None))
    uneven = 1 + 0.05 * smooth_field(draw, size=len(chord), cells=3)
    uneven += 0.08 * pose.turn * pose.u + draw.uniform(-0.1, 0.2) * pose.v
    return np.asarray(anatomy.thickness * chord * uneven)


def _air(
    draw: np.random.Generator,
    aside: np.random.Generator,
    anatomy: Anatomy,
    pose: Pose,
    findings: Findings,
) -> tuple[Image, npt.NDArray[np.bool_], str]:
    """Return the depth of air on each ray, 0 to about 1; where it is consolidated; which lobe."""
    ill = _sides(draw, share_of_both=0.15) if findings.has_pneumonia else ()
    massed = _sides(draw, share_of_both=0.1) if draw.random() < 0.4 else ()
    wet = _sides(aside, share_of_both=0.3) if findings.has_effusion else ()
    total, lost = np.zeros_like(pose.u), np.zeros_like(pose.u)
    down = (pose.v - anatomy.apex_y) * (1 / (pose.base_y - anatomy.apex_y))
    for side in (-1, 1):
        depth, across = lung(anatomy, pose, side=side)
        if side in ill:
            share = brushes.consolidation(
                draw, across=across, down=down, lesion_size=findings.lesion_size
            )
            lost = np.where(depth > _LEAST_DEPTH, np.maximum(lost, share), lost)
            depth *= 1 - share
        if side in massed:
            depth *= 1 - brushes.nodule(draw, across=across, down=down)
        if side in wet:
            depth *= 1 - brushes.effusion(aside, across=across, down=down)
        total += depth
    consolidated = lost > min(_LEAST_SHARE, 0.8 * float(lost.max()))
    return total, consolidated, _lobe(consolidated, pose, down)


def _lobe(consolidated: npt.NDArray[np.bool_], pose: Pose, down: Image) -> str:
    """Name the lobe in which most of a consolidation lies; the left lung has no middle one."""
    if not consolidated.any():
        return ""
    right = consolidated & (pose.u < 0)
    is_right = 2 * int(right.sum()) >= int(consolidated.sum())
    height = float(np.median(down[right if is_right else consolidated & (pose.u >= 0)]))
    if is_right and 0.4 < height < 0.6:
        return "right middle"
    return f"{'right' if is_right else 'left'} {'upper' if height < 0.5 else 'lower'}"


def _sides(draw: np.random.Generator, *, share_of_both: float) -> tuple[int, ...]:
    """Draw one lung, or sometimes both."""
    if draw.random() < share_of_both:
        return (-1, 1)
    return (-1,) if draw.random() < 0.5 else (1,)
