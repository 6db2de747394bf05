"""What a task carries of the coordinator's log: the form in which it travels, read strictly."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json
from hospitium.wire.checkpoints import Checkpoint
from hospitium.wire.merkle import leaf_hash, verify_inclusion

MAX_PROOF = 64
"""Hashes in a proof: enough for any log."""

MAX_EARLIER = 64
"""How many earlier sizes a task may prove itself from."""


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One entry of the log: its number, its bytes, and the proof that it is in the log."""

    n: int
    data: bytes
    proof: Sequence[bytes]

    def content(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return what the entry says, once it is sure that it is in the log.

        Raises:
            TrustError: It is not (``fork``), or is no entry (``canonical``).
        """
        verify_inclusion(
            leaf_hash(self.data),
            index=self.n,
            size=checkpoint.size,
            root=checkpoint.root,
            proof=self.proof,
        )
        try:
            found = json.loads(self.data)
            if not isinstance(found, dict) or canonical_json(found) != self.data:
                raise ValueError("another form")
        except (ValueError, RecursionError) as error:
            raise TrustError(
                "canonical", "A log entry that is not canonical was refused."
            ) from error
        return found


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Another site's cosignature, and the proof that the log goes on from what that site saw."""

    site_id: str
    envelope: bytes
    proof: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class ClosedRound:
    """The entry of a closed round, and the cosignature of everybody who answered in it."""

    entry: Logged
    cosignatures: Sequence[Shown]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a task carries of the coordinator's log.

    Attributes:
        checkpoint: The signed checkpoint; its last entry is ``asked``.
        asked: The entry that says what this round asks, and whom.
        earlier: Proofs that the log goes on from earlier sizes that this site was shown.
        closed: The last closed round, and the last one that this site answered in.
        mine: The entry of this site's own last answer; None before it has one.
    """

    checkpoint: str
    asked: Logged
    earlier: Mapping[int, Sequence[bytes]]
    closed: Sequence[ClosedRound]
    mine: Logged | None

    def encoded(self) -> bytes:
        """Return the bytes that travel."""
        return canonical_json(
            {
                "checkpoint": self.checkpoint,
                "asked": _entry(self.asked),
                "earlier": [
                    {"size": size, "proof": _hexes(proof)}
                    for size, proof in sorted(self.earlier.items())
                ],
                "closed": [
                    {
                        "entry": _entry(one.entry),
                        "cosignatures": [
                            {
                                "site_id": shown.site_id,
                                "envelope": base64.b64encode(shown.envelope).decode(),
                                "proof": _hexes(shown.proof),
                            }
                            for shown in one.cosignatures
                        ],
                    }
                    for one in self.closed
                ],
                "mine": [] if self.mine is None else [_entry(self.mine)],
            }
        )

    @classmethod
    def decoded(cls, data: bytes) -> Opening:
        """Read what came; nothing of it is verified yet but its form.

        Raises:
            TrustError: It is not what `encoded` writes (``canonical``).
        """
        try:
            fields = json.loads(data)
            mine = [_logged(row) for row in fields["mine"]]
            found = cls(
                checkpoint=str(fields["checkpoint"]),
                asked=_logged(fields["asked"]),
                earlier={int(row["size"]): _proof(row["proof"]) for row in fields["earlier"]},
                closed=[
                    ClosedRound(
                        entry=_logged(row["entry"]),
                        cosignatures=[_shown(one) for one in row["cosignatures"]],
                    )
                    for row in fields["closed"]
                ],
                mine=mine[0] if mine else None,
            )
            if found.encoded() != data:
                raise ValueError("another form")
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise TrustError(
                "canonical", "What a task carries of the coordinator's log cannot be read."
            ) from error
        return found


def _entry(logged: Logged) -> dict[str, Json]:
    return {"n": logged.n, "data": logged.data.decode(), "proof": _hexes(logged.proof)}


def _logged(row: Mapping[str, Any]) -> Logged:
    return Logged(n=int(row["n"]), data=str(row["data"]).encode(), proof=_proof(row["proof"]))


def _shown(row: Mapping[str, Any]) -> Shown:
    return Shown(
        site_id=str(row["site_id"]),
        envelope=base64.b64decode(row["envelope"], validate=True),
        proof=_proof(row["proof"]),
    )


def _hexes(proof: Sequence[bytes]) -> list[str]:
    return [hash_.hex() for hash_ in proof]


def _proof(texts: Sequence[str]) -> list[bytes]:
    proof = [bytes.fromhex(text) for text in texts]
    if len(proof) > MAX_PROOF or any(len(hash_) != 32 for hash_ in proof):
        raise ValueError("no proof")
    return proof
