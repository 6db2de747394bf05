"""The record of what left a site for one federation: entries, small payloads, and receipts.

An entry is of `hospitium.state.leaf_log`: synced before anything leaves, numbered from 0, signed
together with all before it. Beside it lie the exact bytes that left, where they are few, and the
coordinator's receipt. The same departure is one entry, however often it is tried.

The folder is open to this site's user alone, and hidden from the training process. What lies in it
left the site already, so it is not encrypted once more.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hospitium.state import durable
from hospitium.state.leaf_log import LeafLog, Line, Signer, lines_of
from hospitium.types import Json
from hospitium.wire.statement import read_time, time_text

LOG = "log"
"""The folder of a federation's record at a site, in the federation's folder."""

MAX_KEPT_BYTES = 1 << 20
"""Larger payloads are files of updates: they stay beside their answer until its receipt is here."""

OVERDUE = timedelta(hours=24)
"""After this, a departure without receipt is unacknowledged."""

WITHOUT_RECEIPT = (
    "enrolment", "heartbeat", "fingerprint", "rotation", "cosignature", "contribution", "resumed",
)  # fmt: skip
"""What nobody gives a receipt for: the answer to it is the member list, or a person has it; a
cosignature is part of a statement that has one; and what is resumed goes nowhere."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One entry of the record, with what lies beside it."""

    line: Line
    has_payload: bool
    receipt: bytes | None

    def standing(self, *, now: datetime) -> str:
        """Return ``receipted``, ``none`` where none is given, ``waiting`` or ``unacknowledged``."""
        if self.receipt is not None:
            return "receipted"
        if self.line.leaf["kind"] in WITHOUT_RECEIPT:
            return "none"
        age = now - read_time(self.line.leaf["time_utc"])
        return "unacknowledged" if age > OVERDUE else "waiting"


class Departures:
    """The record in one folder; threads and processes may share it.

    Args:
        folder: Where it is; made with the first entry.
        signer: Who signs it; None in a simulation, whose sites have no keys.
    """

    def __init__(self, folder: Path, *, signer: Signer | None = None) -> None:
        self.folder = folder
        self._signer = signer
        self._opened: LeafLog | None = None
        self._lock = threading.Lock()

    @property
    def log(self) -> LeafLog:
        """The entries.

        Raises:
            CorruptedError: They are not what was written: nothing may leave.
        """
        with self._lock:
            if self._opened is None:
                self._opened = LeafLog(self.folder, signer=self._signer, same=_same)
            return self._opened

    def record(self, kind: str, facts: Mapping[str, Json]) -> int:
        """Add an entry, durably, unless the same departure is there; return its number."""
        time = time_text(datetime.now(UTC))
        return self.log.append({**facts, "kind": kind, "time_utc": time})

    def checkpoint(self, n: int | None = None) -> str:
        """Return the signed note over all entries up to ``n`` or the last; "" without a key."""
        return self.log.checkpoint(n) if self._signer is not None and self.log.size else ""

    def keep(self, n: int, payload: bytes) -> None:
        """Keep the exact bytes that leave under an entry, durably; large ones are not kept."""
        if len(payload) <= MAX_KEPT_BYTES:
            _replace(self._payload(n), payload)

    def payload(self, n: int) -> bytes | None:
        """Return the bytes that were kept under an entry; None where there are none."""
        return _read(self._payload(n))

    def is_own(self, statement: bytes) -> bool:
        """Whether a kept statement was signed by the key in use, not by one before it."""
        key = None if self._signer is None else self._signer.key().public
        return key is None or key.key_id.encode() in statement

    def keep_receipt(self, n: int, receipt: bytes) -> None:
        """Keep the coordinator's receipt for an entry; it was checked."""
        _replace(self._receipt(n), receipt)

    def receipt(self, n: int) -> bytes | None:
        """Return the receipt for an entry; None before it is here."""
        return _read(self._receipt(n))

    def rows(self) -> Iterator[Recorded]:
        """Yield every entry, in order, as it is on disk now."""
        for line in lines_of(self.folder):
            yield self.beside(line)

    def beside(self, line: Line) -> Recorded:
        """Return an entry with what lies beside it."""
        n = line.leaf["n"]
        return Recorded(line=line, has_payload=self._payload(n).is_file(), receipt=self.receipt(n))

    def _payload(self, n: int) -> Path:
        return self.folder / "payloads" / f"{n:08d}"

    def _receipt(self, n: int) -> Path:
        return self.folder / "receipts" / f"{n:08d}.dsse"


def _same(leaf: Mapping[str, Any]) -> Hashable:
    """Return what makes a departure one: its kind and bytes, and the question that it answers."""
    return leaf["kind"], leaf.get("sha256", ""), leaf.get("day", ""), leaf.get("nonce", "")


def _replace(path: Path, data: bytes) -> None:
    durable.make_folder(path.parent, mode=0o700)
    durable.write_atomically(path, lambda file: str(file.write(data)))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
