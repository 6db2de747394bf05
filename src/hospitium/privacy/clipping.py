"""Bounding how far one update can move the model, keeping its direction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import UpdateError
from hospitium.types import Params


def l2_norm(delta: Params) -> float:
    """Return the L2 norm of all params together, summed in float64; NaN or inf if any value is."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for name in sorted(delta):
            flat = delta[name].reshape(-1)
            for start in range(0, flat.size, 1 << 16):
                block = flat[start : start + (1 << 16)].astype(np.float64)
                total += float(block @ block)
    return math.sqrt(total) if total >= 0 else math.nan


def clip(delta: Params, *, max_norm: float) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Scale a model change down so that its L2 norm is at most ``max_norm``.

    The norm is taken over all params together, as one flat vector: the "flat clipping" of
    McMahan et al., ICLR 2018 (arXiv:1710.06963). Rounding to float32 may leave the norm above
    the bound by one part in a million; the gate allows a thousandth.

    Args:
        delta: Change of each named param, any shapes, finite.
        max_norm: The bound, in the scale of the params; > 0.

    Returns:
        The clipped change, with the names, shapes and dtypes of ``delta``, and the norm before
        clipping. The norm is private: only its bin in a summed histogram leaves the site.

    Raises:
        UpdateError: ``delta`` holds a NaN or an infinity. Nothing is clipped to hide it: a
            non-finite update means that local training diverged.

    Example:
        >>> clipped, norm = clip({"w": np.array([3.0, 4.0])}, max_norm=1.0)
        >>> norm, clipped["w"].round(2).tolist()
        (5.0, [0.6, 0.8])
    """
    norm = l2_norm(delta)
    if not math.isfinite(norm):
        raise UpdateError(
            "non_finite",
            "The change of the params holds a NaN or an infinity: local training diverged. "
            "Nothing was sent. Lower the learning rate in the plan.",
        )
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    if factor == 1.0:
        return dict(delta), norm
    return {
        name: np.multiply(array, factor).astype(array.dtype) for name, array in delta.items()
    }, norm
