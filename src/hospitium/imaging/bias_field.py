"""MR volumes without the slow change of brightness that coils leave: N4, by SimpleITK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hospitium.imaging.instance import FloatArray, Mask
from hospitium.imaging.intensity import otsu

if TYPE_CHECKING:
    import SimpleITK

_MOST_SIDE = 48
_ITERATIONS = (30, 30, 20)


def without_bias(
    values: FloatArray, is_valid: Mask | None, spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Divide a volume by its bias field (N4: Tustison et al., IEEE TMI 29(6), 2010).

    The field is smooth, so it is found on every n-th voxel, with at most 48 to 95 along each
    axis, within the foreground (Otsu) of positive values, and evaluated for all voxels. One
    thread: the same bytes every time. Values that are not positive, and volumes without a
    foreground, stay as they are.

    Args:
        values: ``(i, j, k)``.
        is_valid: Of the same shape; None: all.
        spacing_mm: Along i, j and k.
    """
    import SimpleITK

    foreground = (values > max(0.0, otsu(values, is_valid))) & (
        True if is_valid is None else is_valid
    )
    steps = tuple(max(1, side // _MOST_SIDE) for side in values.shape)
    thin = tuple(slice(step // 2, None, step) for step in steps)
    if foreground[thin].sum() < 2:
        return values
    coarse_mm = tuple(mm * step for mm, step in zip(spacing_mm, steps, strict=True))
    origin_mm = tuple(mm * (step // 2) for mm, step in zip(spacing_mm, steps, strict=True))
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations(list(_ITERATIONS))
    n4.Execute(
        _image(values[thin], coarse_mm, origin_mm),
        _image(foreground[thin].astype(np.uint8), coarse_mm, origin_mm),
    )
    log_field = n4.GetLogBiasFieldAsImage(_image(values, spacing_mm, (0.0, 0.0, 0.0)))
    field = SimpleITK.GetArrayViewFromImage(log_field).transpose(2, 1, 0)
    result: FloatArray = values / np.exp(field, dtype=np.float32)
    return result


def _image(
    values: npt.NDArray[np.generic], spacing_mm: tuple[float, ...], origin_mm: tuple[float, ...]
) -> SimpleITK.Image:
    """Return an array ``(i, j, k)`` as an image of SimpleITK, whose arrays are ``(k, j, i)``."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(spacing_mm)
    image.SetOrigin(origin_mm)
    return image
