"""What a round costs apart from training: sites answer at once, arrays are hashed, synced and read.

The floor writes, syncs and reads the same bytes plainly, one file after the other: once for each
site and once down; it hashes nothing, checks nothing, adds nothing up and keeps no record. For
comparison, measured earlier on a machine of this size with 23 M params (docs/results): NVIDIA FLARE
2.9 took 4.5 s a round with 2 sites and 13 s with 8, Flower 1.42 took 22 s and 70 to 86 s.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.coordinator import measure
from bench.rows import Row, say

SIZES = (("23m_n4", 23_000_000, 4), ("1m_n2", 1_000_000, 2))
NUM_ROUNDS = 6


def rows(*, small: bool) -> Iterator[Row]:
    """Measure rounds after the first: it starts the workers."""
    for name, num_values, num_sites in SIZES:
        found = measure(
            num_sites=num_sites,
            num_values=num_values // 100 if small else num_values,
            num_rounds=NUM_ROUNDS,
            with_floor=True,
        )
        rounds = found["rounds"][1:]
        best = min(rounds, key=lambda row: row["round_s"])
        floor_s = min(row["floor_s"] for row in rounds)
        parts = ", ".join(
            f"{key[:-2].replace('_', ' ')} {best[key]:.3f} s"
            for key in best
            if key.startswith(("here_", "sites_"))
        )
        say(f"{name}: best of {[round(row['round_s'], 3) for row in rounds]} s; in it: {parts}")
        yield Row(name=f"round_overhead_{name}", value=best["round_s"], unit="s", floor=floor_s)
        yield Row(
            name=f"round_serialisation_share_{name}",
            value=best["serialisation_s"] / best["round_s"],
            unit="share of the round",
            floor=floor_s / best["round_s"],
        )
