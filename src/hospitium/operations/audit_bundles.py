"""Bundles: one side's record as rows of JSON, with all that is needed to check it elsewhere.

The first row says whose record it is; then come the member lists, the entries exactly as they are,
checkpoints, what lies beside the entries, and what was seen of the other side. Nothing in it is
secret and nothing is about a patient; names of staff who approved are in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.engines.hub.transport import WORK
from hospitium.engines.hub.watched import SET_ASIDE, WATCH
from hospitium.errors import HospitiumError, UsageError
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.enrolment import joined, read_file
from hospitium.operations.running import open_ledger
from hospitium.site.departures import Departures
from hospitium.site.membership import Membership
from hospitium.site.record import departures_of
from hospitium.state import durable
from hospitium.state.chain import Chain
from hospitium.state.home import Home
from hospitium.state.leaf_log import FILE
from hospitium.state.ledger import RunLedger
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json
from hospitium.wire.checkpoints import (
    Checkpoint,
    coordinator_origin,
    sign_checkpoint,
    site_origin,
)
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import time_text

VERSION = 1
NOTES = "notes"
"""The folder of a run with checkpoints of its log that the coordinator signed."""

Row = dict[str, Any]


def site_bundle(home: Home, federation: str | None) -> list[Row]:
    """Return a site's record of what left it for a federation; None is the only one."""
    place = joined(home, federation)
    settings, departures = place.settings, departures_of(place)
    head = _head(
        side="site",
        federation=settings.federation,
        name=settings.site_id,
        origin=site_origin(settings.federation, settings.site_id),
        chain=place.chain,
        root=place.folder / "members" / "root.json",
        key=_own_key(place),
    )
    return [
        head,
        *_lists(place.chain),
        *({"record": "leaf", "line": line} for line in _raw_lines(departures.folder / FILE)),
        *_departed(departures),
        *_seen(place.folder / WORK / WATCH),
    ]


def run_bundle(home: Home, run_id: str) -> list[Row]:
    """Return the coordinator's log of a run; of one on this machine it is not signed."""
    folder = home.run(run_id)
    ledger = open_ledger(folder)
    try:
        federation = str(ledger.facts.get("federation", ""))
        leaves = [
            {"record": "leaf", "n": n, "line": data.decode()} for n, data in ledger.log.entries()
        ]
    finally:
        ledger.close()
    if not federation:
        head = _head(side="coordinator", federation="", name=run_id, origin="")
        return [head, *leaves]
    desk = existing(home, federation)
    head = _head(
        side="coordinator",
        federation=federation,
        name=run_id,
        origin=coordinator_origin(federation, run_id),
        chain=desk.chain,
        root=desk.folder / "members" / "root.json",
        key=coordinator_key(desk).public.hex(),
    )
    notes = [{"record": "checkpoint", "note": note} for note in _texts(folder / NOTES, "*.note")]
    return [head, *_lists(desk.chain), *leaves, *notes]


def note_run(ledger: RunLedger, *, key: SigningKey, federation: str) -> str:
    """Sign the log of a run as it is now, and keep the checkpoint beside it; return it.

    One that is there for this size stays: it may be evidence.
    """
    size = ledger.log.size
    checkpoint = Checkpoint(
        origin=coordinator_origin(federation, ledger.run_id),
        size=size,
        root=ledger.log.tree().root(size),
    )
    note = sign_checkpoint(checkpoint, key)
    folder = durable.make_folder(ledger.folder / NOTES)
    durable.write_once(folder / f"{size:08d}.note", note.encode())
    return note


def write_bundle(rows: Sequence[Row], path: Path) -> dict[str, Any]:
    """Write a bundle, one row on each line; return where it is and how much is in it."""
    data = b"".join(canonical_json(row) + b"\n" for row in rows)
    durable.write_atomically(path, lambda file: str(file.write(data)))
    entries = sum(row["record"] == "leaf" for row in rows)
    return {"path": str(path), "bytes": len(data), "entries": entries, "origin": rows[0]["origin"]}


def read_bundle(path: Path) -> list[Row]:
    """Read a bundle that somebody else exported.

    Raises:
        UsageError: It is none.
    """
    try:
        rows = [json.loads(line) for line in read_file(path).splitlines() if line]
        if rows[0]["record"] != "bundle" or rows[0]["version"] != VERSION:
            raise ValueError("no bundle")
        if not all(isinstance(row["record"], str) for row in rows):
            raise ValueError("no rows")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UsageError(
            f"{path}: this is no bundle of `hospitium audit export`. Nothing was checked. Ask the "
            "other side to export it anew."
        ) from error
    return rows


def _head(
    *,
    side: str,
    federation: str,
    name: str,
    origin: str,
    chain: Chain | None = None,
    root: Path | None = None,
    key: str = "",
) -> Row:
    planted = json.loads(root.read_bytes()) if root is not None and root.is_file() else {}
    return {
        "record": "bundle",
        "version": VERSION,
        "side": side,
        "federation": federation,
        "name": name,
        "origin": origin,
        "officers": planted.get("officers", []),
        "threshold": planted.get("threshold", 1),
        "key": key,
        "is_signed": side == "site",
        "exported_utc": time_text(datetime.now(UTC)),
    }


def _own_key(place: Membership) -> str:
    """Return the public key in use; "" where it cannot be read: then the lists say which it is."""
    try:
        return place.signing_key().public.hex()
    except HospitiumError:
        return ""


def _lists(chain: Chain) -> Iterator[Row]:
    for envelope in chain.envelopes():
        yield {"record": "members", "envelope": envelope.decode("utf-8", errors="replace")}


def _raw_lines(path: Path) -> list[str]:
    """Return the lines of a log as they are, readable or not; a torn last one is none."""
    if not path.is_file():
        return []
    return [line.decode("utf-8", errors="replace") for line in path.read_bytes().split(b"\n")[:-1]]


def _departed(departures: Departures) -> Iterator[Row]:
    """Yield what lies beside each entry: the statement as it left, and its receipt."""
    numbers = {
        int(path.name.split(".")[0])
        for name in ("payloads", "receipts")
        for path in (departures.folder / name).glob("[0-9]*")
    }
    for n in sorted(numbers):
        fields: dict[str, Json] = {"record": "departed", "n": n}
        for name, data in (
            ("statement", departures.payload(n)),
            ("receipt", departures.receipt(n)),
        ):
            fields[name] = (data or b"").decode("utf-8", errors="replace")
        yield fields


def _seen(folder: Path) -> Iterator[Row]:
    """Yield the coordinator's checkpoints that this site was shown."""
    for place in (folder, *sorted(folder.with_name(SET_ASIDE).glob("*"))):
        for name in ("seen", "evidence-seen"):
            for note in _texts(place, f"*/{name}.note"):
                yield {"record": "seen", "note": note}


def _texts(folder: Path, pattern: str) -> list[str]:
    return [path.read_text("utf-8", errors="replace") for path in sorted(folder.glob(pattern))]
