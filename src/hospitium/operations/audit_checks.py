"""Whether the record of one side holds, and whether those of two sides hold together.

What is wrong is a `Finding` with a name of a closed list and the number of the first entry that it
is about. ``verifier/hospitium_verify.py`` finds the same without any code of Hospitium.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from hospitium.engines.hub.messages import Receipt
from hospitium.errors import CorruptedError, TrustError, UpdateError
from hospitium.operations.audit_asked import askings, is_as_asked
from hospitium.operations.audit_bundles import Row
from hospitium.state.leaf_log import read_line
from hospitium.wire import members
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import Checkpoint, note_key_id, note_of, open_checkpoint, read_note
from hospitium.wire.cosignatures import open_cosignature
from hospitium.wire.merkle import MerkleTree, leaf_hash
from hospitium.wire.signing import VerifyKey, dsse_payload

NAMES = (
    "members", "entry", "truncated", "payload", "receipt", "clock", "fork", "gap", "split"
)  # fmt: skip
"""The closed list of what may be wrong."""

BACKWARDS = timedelta(minutes=5)
"""How far a side's own clock may be set back."""

COORDINATOR = ""
"""Whose keys are the coordinator's; no site is called so."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that does not hold, at an entry of a record."""

    origin: str
    name: str
    n: int
    words: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


class Record:
    """One side's record, checked as far as it alone can be.

    Args:
        rows: The bundle.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.head = rows[0]
        self.rows = {name: [row for row in rows if row["record"] == name] for name in _RECORDS}
        self.is_site = self.head["side"] == "site"
        self.name = str(self.head["name"])
        self.origin = str(self.head["origin"])
        self.findings: list[Finding] = []
        self.keys: dict[str, list[VerifyKey]] = {COORDINATOR: []}
        self.leaves: list[Mapping[str, Any]] = []
        self.tree = MerkleTree()
        self.alike: dict[tuple[str, bytes], tuple[str, int]] = {}
        self._points: list[tuple[int, Callable[[], bool]]] = []
        self.shown: list[Checkpoint] = []
        self.guard(self._take_lists)
        self.guard(self._take_shown)
        self.guard(self._take_site_entries if self.is_site else self._take_run_entries)
        self.guard(self._take_checkpoints)
        for row in self.rows["departed"]:
            self.guard(partial(self._check_departed, row))
        self.guard(self._check_clock)
        self.guard(self._check_asked)

    def guard(self, check: Callable[[], object]) -> None:
        """Make a check; what cannot even be read, in whatever way, is a finding of its own."""
        try:
            check()
        except Exception:
            self.find("entry", 0, "something of it is in no form that can be checked")

    @property
    def num_entries(self) -> int:
        """How many entries there are, readable or not."""
        return len(self.rows["leaf"])

    def find(self, name: str, n: int, words: str) -> None:
        """Add a finding."""
        assert name in NAMES
        self.findings.append(Finding(origin=self.origin, name=name, n=n, words=words))

    def has_root(self, size: int, root: bytes) -> bool:
        """Whether the first ``size`` entries have this root."""
        return size <= self.tree.size and self.tree.root(size) == root

    # --- inside ---------------------------------------------------------------------------------

    def _take_lists(self) -> None:
        """Follow the chain of member lists, and take the keys of everybody who ever was on one."""
        current: members.Members | None = None
        for n, row in enumerate(self.rows["members"]):
            try:
                envelope = row["envelope"].encode()
                if current is None:
                    current = members.open_first(
                        envelope,
                        federation=self.head["federation"],
                        officers=self.head["officers"],
                        threshold=self.head["threshold"],
                    )
                else:
                    current = members.follow(current, [envelope])
            except (TrustError, LookupError, ValueError, AttributeError) as error:
                reason = getattr(error, "reason", "form")
                self.find("members", n, f"member list {n} is refused ({reason})")
                return
            epoch = current.members_epoch
            self._take_alike("members", epoch, canonical_json(epoch), current.digest)
            self._know(COORDINATOR, *current.coordinator_keys)
            for site in current.sites:
                self._know(site.site_id, site.signing_key)
        if not self.rows["members"] and self.head["key"]:
            self._know(self.name if self.is_site else COORDINATOR, self.head["key"])

    def _know(self, name: str, *keys: str) -> None:
        known = self.keys.setdefault(name, [])
        known += [key for text in keys if (key := VerifyKey.from_hex(text)) not in known]

    def _own_keys(self) -> list[VerifyKey]:
        return self.keys.get(self.name if self.is_site else COORDINATOR, [])

    def _take_site_entries(self) -> None:
        """Read a site's entries up to the first that is not in its form or its place."""
        before = ""
        ids = {note_key_id(self.origin, key) for key in self._own_keys()}
        for n, row in enumerate(self.rows["leaf"]):
            try:
                raw = row["line"].encode()
                line = read_line(raw, n=n)
                signature = base64.b64decode(line.signature)
                datetime.fromisoformat(line.leaf["time_utc"])
            except (CorruptedError, ValueError, KeyError, TypeError):
                return self.find("entry", n, "it is not in its form or its place")
            if line.leaf.get("before") != before:
                return self.find("entry", max(0, n - 1), "the entry after it names another one")
            before = digest(raw)
            self._take(line.leaf, line.data)
            if signature and signature[:4] in ids:
                self._points.append((n + 1, self._signed(n + 1, line.signature)))
        return None

    def _take_run_entries(self) -> None:
        """Read the coordinator's entries up to the first that is not in its form or its place."""
        for n, row in enumerate(self.rows["leaf"]):
            try:
                data = row["line"].encode()
                leaf = json.loads(data)
                if canonical_json(leaf) != data or row["n"] != n or not leaf["kind"]:
                    raise ValueError("another form")
                datetime.fromisoformat(leaf["time_utc"])
            except (ValueError, KeyError, TypeError, RecursionError):
                return self.find("entry", n, "it is not in its form or its place")
            self._take(leaf, data)
        return None

    def _take(self, leaf: Mapping[str, Any], data: bytes) -> None:
        self.leaves.append(leaf)
        self.tree.append(leaf_hash(data))

    def _signed(self, size: int, signature: str) -> Callable[[], bool]:
        """Return a test of whether this is this side's signature over so many entries."""

        def holds() -> bool:
            checkpoint = Checkpoint(origin=self.origin, size=size, root=self.tree.root(size))
            try:
                note = note_of(checkpoint, signature)
                open_checkpoint(note, *self._own_keys(), origin=self.origin)
            except TrustError:
                return False
            return True

        return holds

    def _take_checkpoints(self) -> None:
        """Take this side's own checkpoints, and what sites cosigned of the coordinator's log."""
        for row in self.rows["checkpoint"]:
            try:
                found, _, signature = read_note(row["note"])
            except TrustError:
                self.find("truncated", self.num_entries, "a checkpoint of it cannot be read")
                continue
            self._add(found.size, self._signed(found.size, base64.b64encode(signature).decode()))
        for n, leaf in enumerate(self.leaves):
            if leaf.get("cosignature"):
                self._take_cosignature(n, leaf)
        self._prove()

    def _take_cosignature(self, n: int, leaf: Mapping[str, Any]) -> None:
        try:
            site_id, envelope = leaf["site_id"], base64.b64decode(leaf["cosignature"])
            said = open_cosignature(envelope, *self.keys.get(site_id, ()), site_id=site_id)
        except (TrustError, ValueError, KeyError, TypeError):
            return self.find("entry", n, "the cosignature in it does not hold")
        if not is_as_asked(said, self.leaves, n):
            self.find("split", n, f"{site_id} cosigned something else than was asked")
        root = bytes.fromhex(said.root)
        return self._add(said.size, lambda: self.has_root(said.size, root))

    def _add(self, size: int, holds: Callable[[], bool]) -> None:
        if size > self.num_entries:
            self.find("truncated", self.num_entries, f"{size} entries were signed")
        elif size <= len(self.leaves):
            self._points.append((size, holds))

    def _prove(self) -> None:
        """Name the first entry that no signature proves; each proves all entries before it."""
        points = sorted(self._points, key=lambda point: point[0])
        low = bisect_left(points, True, key=lambda point: not point[1]())
        first = points[low - 1][0] if low else 0
        if first < len(self.leaves) and (low < len(points) or self.head["is_signed"]):
            self.find("entry", first, "no signature holds over it and those before it")

    def _check_departed(self, row: Row) -> None:
        """Check what is kept beside an entry against it, and the coordinator's receipt for it."""
        n, statement = row["n"], row["statement"].encode()
        if n >= self.num_entries:
            return self.find("truncated", n, "it left, and its entry is not there")
        if n < len(self.leaves) and statement and not _is_of(statement, self.leaves[n]):
            self.find("payload", n, "other bytes are kept beside it than it names")
        if row["receipt"] and not self._is_receipted(row["receipt"].encode(), statement):
            self.find("receipt", n, "its receipt does not hold")
        return None

    def _is_receipted(self, receipt: bytes, statement: bytes) -> bool:
        for key in self.keys.get(COORDINATOR, []):
            try:
                Receipt.opened(receipt, key=key, site_id=self.name, statement=statement)
            except UpdateError:
                continue
            return True
        return False

    def _check_clock(self) -> None:
        times = [time_of(leaf) for leaf in self.leaves]
        for n, (before, time) in enumerate(pairwise(times), start=1):
            if time - before < -BACKWARDS:
                self.find(
                    "clock", n, f"its time is {before - time} before that of the entry before"
                )

    def _check_asked(self) -> None:
        """Take what each round trained on; every asking of it is of one model and plan."""
        for n, place, what in askings(self.leaves, federation=self.head["federation"]):
            self._take_alike("split", n, place, what)

    def _take_alike(self, name: str, n: int, of: bytes, what: str) -> None:
        """Take what all sides must say alike of something; the first word of a side is its own."""
        if self.alike.setdefault((name, of), (what, n))[0] != what:
            self.find(name, n, "it contradicts an entry before it")

    def _take_shown(self) -> None:
        """Take what a site was shown of logs; a checkpoint that nobody signed proves nothing."""
        for row in self.rows["seen"]:
            with suppress(TrustError, LookupError, ValueError, AttributeError, TypeError):
                origin = read_note(row["note"])[0].origin
                seen = open_checkpoint(row["note"], *self.keys[COORDINATOR], origin=origin)
                place = canonical_json([seen.origin, seen.size])
                self._take_alike("fork", seen.size, place, seen.root.hex())
                self.shown.append(seen)


_RECORDS = ("members", "leaf", "checkpoint", "departed", "seen")


def time_of(leaf: Mapping[str, Any]) -> datetime:
    """Return when an entry was made."""
    return datetime.fromisoformat(leaf["time_utc"])


def _is_of(statement: bytes, leaf: Mapping[str, Any]) -> bool:
    """Whether kept bytes are what an entry names: themselves, or what their signature is about."""
    if leaf["sha256"] == digest(statement):
        return True
    try:
        content = base64.b64decode(json.loads(dsse_payload(statement))["content"])
    except (UpdateError, ValueError, KeyError, TypeError):
        return False
    return bool(digest(content) == leaf.get("envelope_sha256", leaf["sha256"]))
