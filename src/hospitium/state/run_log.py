"""The coordinator's log of one run: an entry for each transition, written together with it.

An entry is canonical JSON with a ``kind`` of `KINDS` and a time; entries are numbered from 0 and
never change. Their Merkle tree is what the coordinator signs and the sites cosign. A run that was
interrupted and lost nothing has the same entries as an unbroken one, times aside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from hospitium.state.database import Database, Transaction
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json
from hospitium.wire.merkle import MerkleTree, leaf_hash

KINDS = (
    "log_begun", "run_begun", "seated", "round_opened", "seats_added", "asked", "asked_again",
    "received", "refused", "left_out", "struck", "conflict", "held", "reviewed", "round_closed",
    "below_quorum", "finished",
)  # fmt: skip
"""The closed list of what an entry may be. ``log_begun`` is the first one of a run that is older
than its log: what happened before it is in the ledger only."""

TIME = "time_utc"
Leaf: TypeAlias = Mapping[str, Any]


def log_append(change: Transaction, kind: str, **fields: Json) -> int:
    """Add an entry within the transaction of what it records; return its number.

    Args:
        change: The transaction; without its commit there is no entry either.
        kind: One of `KINDS`.
        fields: Plain JSON without floats; a real number is written by ``float.hex``.
    """
    assert kind in KINDS and not _has_float(fields), (kind, fields)
    leaf = canonical_json({**fields, "kind": kind, TIME: utc_text()}).decode()
    change.execute("INSERT INTO log SELECT coalesce(max(n), -1) + 1, ? FROM log", (leaf,))
    return change.number("SELECT max(n) FROM log")


class RunLog:
    """Reads the log of one run; the tree over its entries is kept and goes on with them.

    Args:
        database: The run's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tree = MerkleTree()

    @property
    def size(self) -> int:
        """How many entries there are."""
        return int(self._database.rows("SELECT coalesce(max(n), -1) + 1 AS size FROM log")[0][0])

    def tree(self) -> MerkleTree:
        """Return the tree over all entries that there are now."""
        for _, data in self.entries(start=self._tree.size):
            self._tree.append(leaf_hash(data))
        return self._tree

    def entries(self, *, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of each entry, from a number on."""
        rows = self._database.rows("SELECT n, leaf FROM log WHERE n >= ? ORDER BY n", (start,))
        for row in rows:
            yield row["n"], row["leaf"].encode()

    def entry(self, n: int) -> bytes:
        """Return the bytes of one entry."""
        return str(self._database.rows("SELECT leaf FROM log WHERE n = ?", (n,))[0][0]).encode()

    def leaves(self) -> list[dict[str, Any]]:
        """Return every entry, read, without its time: what a resumed run's log must equal."""
        found = [json.loads(data) for _, data in self.entries()]
        return [{name: leaf[name] for name in leaf if name != TIME} for leaf in found]

    def of(self, kind: str, *, round_number: int | None = None) -> list[tuple[int, dict[str, Any]]]:
        """Return number and content of the entries of a kind, of one round or of all."""
        rows = self._database.rows(
            "SELECT n, leaf FROM log WHERE json_extract(leaf, '$.kind') = ?1 "
            "AND (?2 IS NULL OR json_extract(leaf, '$.round_number') = ?2) ORDER BY n",
            (kind, round_number),
        )
        return [(row["n"], json.loads(row["leaf"])) for row in rows]

    def accepted(self, round_number: int) -> dict[str, dict[str, Any]]:
        """Return, by site, the entry of the update that was accepted in a round, or once was.

        One digest is accepted for a seat, and stays the only one, though a power cut tore its file
        or a round began anew.
        """
        found = self.of("received", round_number=round_number)
        return {leaf["site_id"]: {**leaf, "n": n} for n, leaf in found}

    def conflicting(self, round_number: int) -> set[str]:
        """Return the sites that gave different answers to one task of a round."""
        return {leaf["site_id"] for _, leaf in self.of("conflict", round_number=round_number)}

    def asked(self, asking: Mapping[str, Json]) -> int:
        """Record whom a round asks with which model, unless it was the last to be; its number.

        Only the last one counts as there already: sites have seen the log up to it.
        """
        number = asking["round_number"]
        assert isinstance(number, int)
        for n, leaf in self.of("asked", round_number=number)[-1:]:
            if all(leaf[name] == asking[name] for name in asking):
                return n
        with self._database.transaction("asked") as change:
            return log_append(change, "asked", **asking)

    def conflict(self, round_number: int, site_id: str, statements: Mapping[str, bytes]) -> bool:
        """Keep different statements of a site for one place, once; whether they were new.

        Args:
            round_number: The round.
            site_id: Whose.
            statements: Each by its SHA-256, the one that counts first; empty where it was kept once
                and is gone by now.
        """
        with self._database.transaction("conflict") as change:
            new = [
                change.execute(
                    "INSERT OR IGNORE INTO conflicts VALUES (?, ?, ?, ?)",
                    (round_number, site_id, sha256, statement),
                )
                for sha256, statement in statements.items()
            ]
            if any(new):
                log_append(
                    change,
                    "conflict",
                    round_number=round_number,
                    site_id=site_id,
                    statements=list(statements),
                )
        return any(new)


def utc_text() -> str:
    """Return the time as the ledger holds it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _has_float(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_float(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_float(item) for item in value)
    return isinstance(value, float)
