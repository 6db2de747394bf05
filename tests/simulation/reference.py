"""The same rounds computed again, slowly and apart: what the params must be, to the last bit.

Shared with the product are the functions for weights and scale, which are pure and have tests of
their own; adding up and dividing is done here once more, in plain integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hospitium.algorithms.weights import weights
from hospitium.plan import Plan
from hospitium.privacy.exact_sum import WEIGHT_ONE, scale_for
from hospitium.types import Seat

Params = Mapping[str, Any]
_known: dict[object, dict[str, Any]] = {}


def next_params(
    plan: Plan,
    seats: tuple[Seat, ...],
    *,
    base: Params,
    max_norm: float,
    changes: Mapping[str, Params],
) -> dict[str, Any]:
    """Return the params after a round in which exactly these sites changed them so."""
    place = (
        tuple(seats), max_norm, _name(base),
        tuple((site_id, _name(changes[site_id])) for site_id in sorted(changes)),
    )  # fmt: skip
    if place not in _known:
        if len(_known) > 20_000:
            _known.clear()
        _known[place] = _computed(plan, seats, base=base, max_norm=max_norm, changes=changes)
    return _known[place]


def _computed(
    plan: Plan,
    seats: tuple[Seat, ...],
    *,
    base: Params,
    max_norm: float,
    changes: Mapping[str, Params],
) -> dict[str, Any]:
    algorithm = plan.algorithm
    each = weights(seats, exponent=algorithm.weight_exponent, max_share=algorithm.max_share)
    scale = scale_for(max_norm=max_norm, max_sites=len(seats))
    total_weight = sum(each[site_id] for site_id in changes)
    found = {}
    for name, array in base.items():
        flat = [0] * array.size
        for site_id, change in changes.items():
            share = each[site_id] / WEIGHT_ONE
            for index, value in enumerate(change[name].reshape(-1)):
                flat[index] += round(float(value) * share * scale)
        mean = np.array([number / (scale * (total_weight / WEIGHT_ONE)) for number in flat])
        found[name] = array + mean.astype(np.float32).reshape(array.shape)
    return found


def _name(params: Params) -> bytes:
    sha256 = hashlib.sha256()
    for name in sorted(params):
        sha256.update(name.encode() + params[name].tobytes())
    return sha256.digest()
