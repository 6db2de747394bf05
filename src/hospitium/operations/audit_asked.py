"""Whether all sites of a round were asked alike, as far as records say: no split model.

The model and the plan are one for all in a round, from its first asking to its last. The member
list and the sites that are asked may change within a round: each asking is an entry of its own,
and who answers it cosigns exactly that entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hospitium.errors import TrustError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.cosignatures import Asking, Cosignature


def askings(
    leaves: Sequence[Mapping[str, Any]], *, federation: str
) -> Iterator[tuple[int, bytes, str]]:
    """Yield each entry that says what a round trained on: its number, the round, and what.

    Args:
        leaves: Entries of a site (its updates) or of the coordinator (its askings).
        federation: Whose; a run of the same name elsewhere is another one.
    """
    for n, leaf in enumerate(leaves):
        if (leaf["kind"], leaf.get("purpose")) in (("update", None), ("asked", "train")):
            place = [leaf.get(name) for name in ("run_id", "round_number")]
            what = [leaf.get(name) for name in ("base_digest", "plan_digest")]
            yield n, canonical_json([federation, *place]), canonical_json(what).decode()


def is_as_asked(said: Cosignature, leaves: Sequence[Mapping[str, Any]], n: int) -> bool:
    """Whether the cosignature in entry ``n`` is of what an earlier entry of its round asks.

    That is the model, the plan, the member list and the sites.
    """
    try:
        asking = Asking.of(leaves[min(said.asked, n)])
    except TrustError:
        return False
    is_of_round = (said.round_number, said.purpose) == (leaves[n].get("round_number"), "train")
    return is_of_round and said.says(asking)
