"""Named random generators: all randomness flows from the plan's seed through a name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for a named purpose, the same on every machine.

    Example:
        >>> seed_of(7, "select", 1) == seed_of(7, "select", 1) != seed_of(7, "select", 2)
        True
    """
    text = "/".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator for a named purpose: ``rng(plan.seed, "select", round_number)``."""
    import numpy as np  # heavy: kept out of `import hospitium`

    return np.random.Generator(np.random.PCG64(seed_of(seed, *names)))
