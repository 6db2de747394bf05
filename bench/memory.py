"""The coordinator's peak memory with 2 to 16 sites: an aggregate is a running sum, so it is flat.

Each figure is the ``VmHWM`` of a fresh process that runs two rounds of the in-process engine with
sites that do no local work. The files of updates are mapped, and what of them was resident counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.coordinator import measure
from bench.rows import Row

NUM_SITES = (2, 4, 8, 16)
TARGET = 1.15


def rows(*, small: bool) -> Iterator[Row]:
    """Measure N = 2 beside a process that only imports; and the others beside N = 2."""
    num_values = 230_000 if small else 23_000_000
    floor_mb = measure(num_sites=2, num_values=num_values, num_rounds=0)["peak_mb"]
    for num_sites in NUM_SITES:
        found = measure(num_sites=num_sites, num_values=num_values, num_rounds=2)
        yield Row(
            name=f"coordinator_rss_n{num_sites}",
            value=found["peak_mb"],
            unit="MB",
            floor=floor_mb,
            target=None if num_sites == NUM_SITES[0] else TARGET,
        )
        if num_sites == NUM_SITES[0]:
            floor_mb = found["peak_mb"]
