"""How a learning rate goes over a run: warm-up, then constant or a cosine to zero."""

from __future__ import annotations

import math

_MAX_WARMUP = 200


def rate_share(step: int, *, total: int, warmup: float, schedule: str) -> float:
    """Return the share of the highest rate at a step counted from 0.

    Args:
        step: 0 to ``total - 1``.
        total: Steps of the whole run.
        warmup: Share of them in which the rate rises; at most 200 steps.
        schedule: ``"constant"`` or ``"cosine"``.

    Example:
        >>> [rate_share(step, total=4, warmup=0.25, schedule="cosine") for step in range(3)]
        [1.0, 1.0, 0.75]
    """
    rising = min(_MAX_WARMUP, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
