"""An abdomen in Hounsfield units, with or without lesions of the liver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hospitium.testing.phantoms.solids import Points, Triple, Volume, radius, smooth_volume

AIR_HU = -1000.0
_ORGANS: tuple[tuple[Triple, Triple, float], ...] = (  # centre and radii in mm, HU
    ((88, 35, 30), (30, 38, 40), 52.0),  # spleen
    ((58, 48, -35), (24, 22, 48), 38.0),  # kidneys
    ((-58, 48, -40), (24, 22, 48), 38.0),
)


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """What stays the same between two studies of a subject; lengths in mm, densities in HU."""

    radii: tuple[float, float]
    fat: float
    liver_hu: float
    liver: tuple[float, float, float]
    vessel_hu: float


def draw_trunk(draw: np.random.Generator) -> Trunk:
    """Draw a trunk: slim or stout, with or without contrast agent."""
    return Trunk(
        radii=(draw.uniform(140, 170), draw.uniform(98, 125)),
        fat=draw.uniform(8, 26),
        liver_hu=draw.uniform(50, 70),
        liver=(draw.uniform(62, 78), draw.uniform(58, 70), draw.uniform(60, 80)),
        vessel_hu=45.0 if draw.random() < 0.5 else draw.uniform(110, 180),
    )


def draw_densities(
    draw: np.random.Generator,
    trunk: Trunk,
    points: Points,
    *,
    num_lesions: int,
    lesion_size: float = 1.0,
) -> tuple[Volume, npt.NDArray[np.bool_]]:
    """Return Hounsfield units at each point, and where a liver lesion is.

    Args:
        draw: Of textures and lesions.
        trunk: Of the subject.
        points: Where; the liver is at the right, x < 0.
        num_lesions: Each of 6 to 18 mm radius, 25 to 45 HU less dense than the liver.
        lesion_size: Factor on these radii.
    """
    rough = smooth_volume(draw, points.x.shape, cells=14)
    width, height = trunk.radii
    inside = np.sqrt(np.square(points.x / width) + np.square(points.y / height))
    muscle = 1 - trunk.fat / height
    hu = np.full(points.x.shape, AIR_HU, np.float32)
    hu[inside < 1] = -100
    hu[inside < muscle] = 50
    hu[inside < muscle - 0.12] = -85
    hu[inside < muscle - 0.13] += (70 * np.clip(rough, 0, 1.3))[inside < muscle - 0.13]  # bowel
    liver = (radius(points, centre=(-55, -8, 20), radii=trunk.liver) < 1) & (inside < muscle - 0.1)
    for place, extent, density in _ORGANS:
        organ = radius(points, centre=place, radii=extent) < 1
        hu[organ & (inside < muscle - 0.08)] = density
    hu[liver] = trunk.liver_hu
    for side in (-1, 1):  # bases of the lungs
        lung = radius(points, centre=(70 * side, 10, 135), radii=(58, 75, 70))
        hu[(lung < 1) & (inside < muscle - 0.08)] = -850
    hu[radius(points, centre=(14, 32, 0), radii=(11, 11, 4000)) < 1] = trunk.vessel_hu
    spine = radius(points, centre=(0, 0.6 * height, 0), radii=(22, 19, 4000))
    hu[spine < 1] = 550
    hu[spine < 0.85] = 190
    lesions = np.zeros(points.x.shape, bool)
    for _ in range(num_lesions):
        centre = (draw.uniform(-95, -25), draw.uniform(-35, 20), draw.uniform(-15, 50))
        wide, deep, high = lesion_size * draw.uniform(6, 18) * draw.uniform(0.8, 1.2, 3)
        lesion = (radius(points, centre=centre, radii=(wide, deep, high)) < 1 + 0.1 * rough) & (
            hu == np.float32(trunk.liver_hu)
        )
        lesions |= lesion
        hu[lesion] -= draw.uniform(25, 45)
    hu += np.where(hu > -200, 4 * rough, 0).astype(np.float32)
    return hu, lesions
