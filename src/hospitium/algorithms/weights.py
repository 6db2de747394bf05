"""How much each site counts: cases to a power, capped so that nobody holds most of the model."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from hospitium.privacy.exact_sum import WEIGHT_ONE
from hospitium.types import Seat


def weights(seats: Sequence[Seat], *, exponent: float, max_share: float) -> dict[str, int]:
    """Return each site's aggregation weight as an integer out of ``WEIGHT_ONE``.

    ``w_k = (min(n_k, n_cap) / n_cap) ** exponent``, at least ``1 / (4N)``, where ``n_cap`` is the
    largest number of cases at which no site holds more than ``max_share`` of the sum. Below five
    sites at least 0.6 is allowed, and never less than an equal share. They follow from the
    seats alone, in whatever order these come.

    Example:
        >>> sites = [Seat(site_id="a", num_cases=900), Seat(site_id="b", num_cases=100)]
        >>> [round(w / WEIGHT_ONE, 3) for w in weights(sites, exponent=1, max_share=0.5).values()]
        [1.0, 0.667]
    """
    counts = {seat.site_id: max(1, seat.num_cases) for seat in seats}
    allowed = max(max_share, 0.6) if len(counts) < 5 else max_share
    allowed = max(allowed, 1.0 / len(counts))
    low, high = min(counts.values()), max(counts.values())
    while low < high:  # the largest cap that keeps the largest site within its share
        middle = (low + high + 1) // 2
        if 1.0 / _total(counts, middle, exponent) <= allowed + 1e-12:
            low = middle
        else:
            high = middle - 1
    floor = 1.0 / (4 * len(counts))
    return {
        site_id: max(1, int(WEIGHT_ONE * max(floor, _weight(count, low, exponent)) + 0.5))
        for site_id, count in counts.items()
    }


def _weight(count: int, cap: int, exponent: float) -> float:
    return float((min(count, cap) / cap) ** exponent)


def _total(counts: dict[str, int], cap: int, exponent: float) -> float:
    return fsum(_weight(count, cap, exponent) for count in counts.values())
