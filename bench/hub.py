"""What a round between machines costs apart from training, and what the coordinator needs for it.

The coordinator with its hub serves TLS; each site is a process with the real agent, which answers
with a small random change at once. The floor of a round copies the same bytes over plain TLS
sockets, N connections at once, the model down and an update up on each, and does nothing else.
Measured earlier on a machine of this size with 23 M params, NVIDIA FLARE 2.9 took 4.5 s a round
with 2 sites and 13 s with 8, and its server grew from 1.3 to 3.1 GB; `bench.peers` does it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.hub_coordinator import measure
from bench.rows import Row, say

ROUNDS = (("23m_n2", 23_000_000, 2), ("23m_n8", 23_000_000, 8), ("1m_n2", 1_000_000, 2))
NUM_ROUNDS = 6
FLOOR_TARGET = 6.0
SMALL_ROUND_S = 0.200
MODEL_VALUES = 23_000_000
MOST_MB = 600.0
FLAT = 1.15


def rows(*, small: bool) -> Iterator[Row]:
    """Measure rounds after the first, which waits for sites to start; then memory.

    ``small`` keeps the names: a hundredth of the params, and four sites in the place of sixteen.
    """
    for name, num_values, num_sites in ROUNDS:
        yield round_row(name, num_values // 100 if small else num_values, num_sites)
    num_values, most_sites = (MODEL_VALUES // 100, 4) if small else (MODEL_VALUES, 16)
    least_mb = measure(num_sites=2, num_values=num_values, num_rounds=0)["peak_mb"]
    two_mb = measure(num_sites=2, num_values=num_values, num_rounds=2)["peak_mb"]
    yield Row(name="hub_rss_n2", value=two_mb, unit="MB", floor=least_mb, target=MOST_MB / least_mb)
    many_mb = measure(num_sites=most_sites, num_values=num_values, num_rounds=2)["peak_mb"]
    flat = min(FLAT, MOST_MB / two_mb)
    yield Row(name="hub_rss_n16", value=many_mb, unit="MB", floor=two_mb, target=flat)


def round_row(name: str, num_values: int, num_sites: int) -> Row:
    """Measure rounds with this many sites and params, and give the best one as a row."""
    found = measure(
        num_sites=num_sites, num_values=num_values, num_rounds=NUM_ROUNDS, with_floor=True
    )
    rounds = found["rounds"][1:]
    best_s = min(row["round_s"] for row in rounds)
    floor_s = min(row["floor_s"] for row in rounds)
    say(
        f"{name}: best of {[round(row['round_s'], 3) for row in rounds]} s; "
        f"floors {[round(row['floor_s'], 3) for row in rounds]} s"
    )
    target = SMALL_ROUND_S / floor_s if name.startswith("1m") else FLOOR_TARGET
    return Row(name=f"hub_round_{name}", value=best_s, unit="s", floor=floor_s, target=target)
