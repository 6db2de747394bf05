"""Metric sums as the ledger keeps them: histograms are nearly empty, so only what is in them.

A list of whole numbers is kept as it is, or as ``[length, [index, value], ...]`` of the others than
0 under its name in ``"~"``, whichever is shorter. A site's sums of a round are then some
hundred bytes and not some thousand: of 50 sites in 450 rounds, 5 MB and not 120 MB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from hospitium.types import Json, Sums
from hospitium.wire.canonical import canonical_json

_SPARSE = "~"
"""No sum has this name: names begin with a letter or a digit."""


def sums_text(sums: Sums) -> str:
    """Return sums as text; the same sums always give the same text.

    Example:
        >>> sums_text({"loss": (7,), "score": (0, 0, 0, 3, 0, 0, 0, 0, 0)})
        '{"loss":[7],"~":{"score":[9,[3,3]]}}'
    """
    assert _SPARSE not in sums, "the name is taken"
    found: dict[str, Json] = {}
    sparse: dict[str, Json] = {}
    for name, values in sums.items():
        filled: list[Json] = [[index, value] for index, value in enumerate(values) if value]
        if 4 * len(filled) < len(values):
            sparse[name] = [len(values), *filled]
        else:
            found[name] = list(values)
    return canonical_json(found | ({_SPARSE: sparse} if sparse else {})).decode()


def read_sums(text: str) -> dict[str, tuple[int, ...]]:
    """Return the sums of a text; an older one that holds every list as it is is read too."""
    found = json.loads(text)
    sparse = found.pop(_SPARSE, {})
    sums = {name: tuple(values) for name, values in found.items()}
    for name, (length, *filled) in sparse.items():
        sums[name] = _spread(length, filled)
    return dict(sorted(sums.items()))


def _spread(length: int, filled: Sequence[Sequence[int]]) -> tuple[int, ...]:
    values = [0] * length
    for index, value in filled:
        values[index] = value
    return tuple(values)
