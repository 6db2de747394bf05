"""What a person can do with what left a site: list it, open its copy, see it before it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from hospitium.engines.hub.transport import WORK
from hospitium.errors import HubError, UsageError
from hospitium.operations.enrolment import joined, require_no_centre
from hospitium.site.departures import LOG, Departures, Recorded
from hospitium.site.egress import DRY_RUN
from hospitium.site.membership import memberships
from hospitium.site.record import departures_of
from hospitium.state import durable
from hospitium.state.home import Home

OWN = ""
"""Stands for the site's own record, of files that people took without a federation's key."""


def list_departures(home: Home, federation: str | None, *, now: datetime) -> list[dict[str, Any]]:
    """Return one row for each thing that left, of one federation or of all, oldest first.

    ``standing`` says what is known of its arrival: ``receipted``, ``waiting``, ``unacknowledged``
    (no receipt after 24 hours), or ``none`` where no receipt is given.
    """
    rows = [
        _row(name, recorded, now=now)
        for name, departures in _records(home, federation)
        for recorded in departures.rows()
    ]
    return sorted(rows, key=lambda row: (row["time_utc"], row["federation"], row["n"]))


def show_departure(
    home: Home, federation: str | None, n: int, *, now: datetime, save: Path | None = None
) -> dict[str, Any]:
    """Return one thing that left, and write the copy that is kept of it where that is asked for.

    Args:
        home: This installation.
        federation: Whose record; None for the only one.
        n: Its number there.
        now: The time.
        save: File to write: exactly the bytes that left. The file of an update, where it is here
            still, is written beside it, with ``.file`` added to the name.

    Raises:
        UsageError: There is no such entry, or no copy of it is kept any more.
    """
    name, departures = _one(home, federation)
    found = next((row for row in departures.rows() if row.line.leaf["n"] == n), None)
    if found is None:
        size = sum(1 for _ in departures.rows())
        raise UsageError(
            f"There is no entry {n} in the record of {name or 'this site'}: it has {size}, counted "
            "from 0. Nothing was written. See `hospitium egress list`."
        )
    payload, file = departures.payload(n), _kept_file(home, name, found)
    saved = _save(save, payload, file) if save is not None else []
    return {
        **_row(name, found, now=now),
        "entry": dict(found.line.leaf),
        "payload_bytes": None if payload is None else len(payload),
        "file_is_kept": file is not None,
        "saved": [str(path) for path in saved],
    }


class Saved:
    """A line that leads into a folder: what would leave is written there, and nothing is sent.

    Args:
        folder: Where; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = durable.make_folder(folder)
        self.paths: list[Path] = []

    def send(self, statement: bytes) -> bytes:
        """Write a statement that has no file."""
        return self._keep(statement, None)

    def upload(self, path: Path, upload_id: str, statement: bytes) -> bytes:
        """Write a statement and its file."""
        return self._keep(statement, path)

    def _keep(self, statement: bytes, file: Path | None) -> bytes:
        path = self._folder / f"{len(self.paths) + 1:03d}.statement"
        self.paths += _save(path, statement, file)
        raise HubError(DRY_RUN, "It was written to a folder and not sent, as was asked for.")


def _save(path: Path, payload: bytes | None, file: Path | None) -> list[Path]:
    """Write the bytes of a departure to a file, and those of its file beside it."""
    if payload is None and file is None:
        raise UsageError(
            "No copy of it is kept at this site any more, only its digest. Nothing was written."
        )
    written = []
    if payload is not None:
        durable.write_atomically(path, lambda out: str(out.write(payload)))
        written.append(path)
    if file is not None:
        beside = path.with_name(f"{path.name}.file")
        with durable.storage_errors(beside):
            shutil.copyfile(file, beside)
        written.append(beside)
    return written


def _records(home: Home, federation: str | None) -> Iterator[tuple[str, Departures]]:
    if federation is not None:
        yield _one(home, federation)
        return
    own, places = home.folder / "site" / LOG, memberships(home.folder)
    if not places and not own.exists():
        require_no_centre(home)
    yield OWN, Departures(own)
    for place in places:
        yield place.settings.federation, departures_of(place)


def _one(home: Home, federation: str | None) -> tuple[str, Departures]:
    """Return one record: of the federation that is named or the only one; else the site's own."""
    if federation is None and not memberships(home.folder):
        return OWN, Departures(home.folder / "site" / LOG)
    place = joined(home, federation)
    return place.settings.federation, departures_of(place)


def _row(federation: str, recorded: Recorded, *, now: datetime) -> dict[str, Any]:
    leaf = recorded.line.leaf
    return {
        "federation": federation,
        "n": leaf["n"],
        "time_utc": leaf["time_utc"],
        "kind": leaf["kind"],
        "bytes": leaf["bytes"],
        "sha256": leaf.get("sha256", ""),
        "destination": leaf["destination"],
        "plan_digest": leaf.get("plan_digest", ""),
        "run_id": leaf.get("run_id", ""),
        "round_number": leaf.get("round_number"),
        "approved_by": leaf.get("approved_by", []),
        "standing": recorded.standing(now=now),
        "is_kept": recorded.has_payload,
    }


def _kept_file(home: Home, federation: str, recorded: Recorded) -> Path | None:
    """Return the file that left with an update, while it is kept."""
    folder = home.folder / "site" / "federations" / federation / WORK / "answers"
    for path in sorted(folder.glob("*.json")) if federation else []:
        fields = json.loads(path.read_bytes())
        file = folder / str(fields["file"])
        if fields["sha256"] == recorded.line.leaf.get("sha256") and file.is_file():
            return file
    return None
