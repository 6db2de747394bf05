"""What a test keeps of a run between machines, to look through it when the run is over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from installations import Installation, linked

from hospitium.engines.workers import WorkerPool
from hospitium.operations.running import OnThisMachine, open_ledger
from hospitium.site.departures import LOG, Departures
from hospitium.state.ledger import RunLedger
from hospitium.types import Answer, Engine, LeftOut, Task, Update

PIECE_BYTES = 48
_NO_REQUEST = "error:transaction-end-before-headers"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An update in the clear: its size and digest, and a piece out of its middle."""

    size_bytes: int
    sha256: str
    piece: bytes


class Remembering:
    """Engines on this machine that keep a piece of every update of every site."""

    def __init__(self, pool: WorkerPool) -> None:
        self._here = OnThisMachine(pool)
        self.sent: dict[tuple[str, int], Sent] = {}

    def open(self, ledger: RunLedger) -> Engine:
        """Return the engine of a run."""
        return _Remembering(self._here.open(ledger), self.sent)

    def stop(self) -> None:
        """Stop the workers."""
        self._here.stop()


class _Remembering:
    def __init__(self, engine: Engine, sent: dict[tuple[str, int], Sent]) -> None:
        self._engine = engine
        self._sent = sent

    def select(self, *, round_number: int) -> Sequence[str]:
        return self._engine.select(round_number=round_number)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Iterator[Answer]:
        for answer in self._engine.ask(task, site_ids, deadline_s=deadline_s):
            if isinstance(answer, Update) and answer.path:
                data = Path(answer.path).read_bytes()
                middle = len(data) // 2
                self._sent[answer.site_id, answer.round_number] = Sent(
                    size_bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    piece=data[middle : middle + PIECE_BYTES],
                )
            yield answer

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        return self._engine.gone(site_ids)

    def close(self) -> None:
        self._engine.close()


class HubFiles:
    """Every file that was in the hub's folder at any moment, kept under a second name."""

    def __init__(self, hub: Path, kept: Path) -> None:
        self._hub = hub
        self._kept = kept
        kept.mkdir()

    def look(self) -> None:
        """Keep what is there now."""
        for path in self._hub.rglob("*"):
            try:
                number = path.stat().st_ino
            except FileNotFoundError:
                continue
            if path.is_file():
                linked(path, self._kept / f"{number}-{path.parent.name}-{path.name}")

    def received(self, site_id: str) -> dict[str, Path]:
        """Return the files that came from a site, by the SHA-256 that it promised; no notes."""
        found = sorted(self._kept.glob(f"*-{site_id}-*"))
        return {
            path.stem.rpartition("-")[2]: path
            for path in found
            if path.suffix in (".part", ".safetensors") and ".chunks" not in path.name
        }

    def models(self) -> list[Path]:
        """Return the files with the params that sites fetched."""
        return sorted(self._kept.glob("*-blobs-*.safetensors"))

    def holding(self, piece: bytes) -> list[str]:
        """Return the names of the files that hold these bytes."""
        return [path.name for path in self._kept.iterdir() if piece in path.read_bytes()]


def asked_for(log: str) -> list[tuple[str, str]]:
    """Return method and target of every request in a proxy's log; some connections have none."""
    rows = [line.split() for line in log.splitlines()]
    return [(row[5], row[6]) for row in rows if row[6] != _NO_REQUEST]


def hosts(log: str) -> set[str]:
    """Return host and port of everything that a proxy was asked for."""
    targets = [target if "//" in target else f"//{target}" for _, target in asked_for(log)]
    return {f"{split.hostname}:{split.port or 443}" for split in map(urlsplit, targets)}


def left(site: Installation) -> list[dict[str, Any]]:
    """Return a site's own record of what left it for the coordinator."""
    return [dict(row.line.leaf) for row in Departures(site.site / LOG).rows()]


def record_of(folder: Path) -> dict[str, Any]:
    """Return what the ledger of a run says happened."""
    ledger = open_ledger(folder)
    try:
        return ledger.record()
    finally:
        ledger.close()
