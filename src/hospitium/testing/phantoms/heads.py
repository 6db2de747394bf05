"""A head of tissues, with or without lesions of the white matter, and how bright each shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from hospitium.testing.phantoms.solids import Points, Volume, radius, smooth_volume

Contrast = Literal["T1", "T2", "FLAIR"]
AIR, SCALP, SKULL, CSF, GREY, WHITE, LESION = range(7)

BRIGHTNESS: Mapping[Contrast, tuple[float, ...]] = MappingProxyType(
    {  # air, scalp, skull, CSF, grey matter, white matter, lesion
        "T1": (0.0, 0.9, 0.12, 0.2, 0.55, 0.78, 0.42),
        "T2": (0.0, 0.65, 0.08, 1.0, 0.62, 0.45, 0.82),
        "FLAIR": (0.0, 0.6, 0.08, 0.1, 0.66, 0.48, 0.92),
    }
)
"""How bright each tissue shows, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stays the same between two studies of a subject; lengths in millimetres."""

    radii: tuple[float, float, float]
    skull: float
    fluid: float
    cortex: float
    folds: float
    ventricle: float


def draw_head(draw: np.random.Generator) -> Head:
    """Draw a head: large or small, with narrow or wide ventricles."""
    return Head(
        radii=(draw.uniform(68, 77), draw.uniform(84, 94), draw.uniform(78, 87)),
        skull=draw.uniform(4, 8),
        fluid=draw.uniform(2, 5),
        cortex=draw.uniform(5, 8),
        folds=draw.uniform(2, 4),
        ventricle=draw.uniform(0.7, 1.6),
    )


def draw_tissues(
    draw: np.random.Generator,
    head: Head,
    points: Points,
    *,
    num_lesions: int,
    lesion_size: float = 1.0,
) -> npt.NDArray[np.uint8]:
    """Return the tissue at each point: ``AIR`` to ``LESION``.

    Args:
        draw: Of folds and lesions.
        head: Of the subject.
        points: Where.
        num_lesions: Each of 4 to 11 mm radius, somewhere in the white matter.
        lesion_size: Factor on these radii.
    """
    folds = smooth_volume(draw, points.x.shape, cells=16)
    from_centre = radius(points, centre=(0, 0, 0), radii=head.radii)
    depth = (1 - from_centre) * float(np.mean(head.radii))
    tissues = np.zeros(points.x.shape, np.uint8)
    under_scalp = 6.0
    in_fluid = under_scalp + head.skull
    in_cortex = in_fluid + head.fluid
    in_white = in_cortex + head.cortex + head.folds * folds
    for tissue, border in ((SCALP, 0.0), (SKULL, under_scalp), (CSF, in_fluid), (GREY, in_cortex)):
        tissues[depth > border] = tissue
    tissues[depth > in_white] = WHITE
    for side in (-1, 1):
        nucleus = radius(points, centre=(16 * side, 2, 0), radii=(10, 15, 11))
        tissues[(nucleus < 1) & (tissues == WHITE)] = GREY
        horn = radius(
            points,
            centre=(10 * side, 0, 14),
            radii=(5.5 * head.ventricle, 30, 8 * head.ventricle),
            turn=0.18 * side,
        )
        tissues[horn < 1 + 0.05 * folds] = CSF
    lesions = _lesions(draw, points, num=num_lesions, size=lesion_size, border=folds)
    tissues[lesions & (tissues >= GREY)] = LESION
    return tissues


def _lesions(
    draw: np.random.Generator, points: Points, *, num: int, size: float, border: Volume
) -> npt.NDArray[np.bool_]:
    """Return where lesions are: soft ellipsoids beside and above the ventricles."""
    where = np.zeros(points.x.shape, bool)
    for _ in range(num):
        side = -1 if draw.random() < 0.5 else 1
        centre = (side * draw.uniform(24, 38), draw.uniform(-35, 35), draw.uniform(5, 35))
        radii = size * draw.uniform(4, 11) * draw.uniform(0.8, 1.25, 3)
        where |= radius(points, centre=centre, radii=tuple(radii.tolist())) < 1 + 0.15 * border
    return where
