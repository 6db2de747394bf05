"""The only way out of a site: what an update may hold, and the record of it before it leaves.

An update is the change of the params, of exactly the names and shapes that came in and within the
bound of the task; sums of integers under names and of lengths from a closed list; and counts. There
is no field for anything else: no text, no path, no identifier of a case.

A fingerprint of the data is counts of at least ten subjects, and leaves as a file that a person
asked for.

Whatever else goes to the coordinator is of a closed list too, and is recorded before its first byte
is sent: `Departures`. Questions that hold nothing but who asks are not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from hospitium.algorithms.norm_bound import NUM_BINS as NORM_BINS
from hospitium.errors import DataError, SiteError
from hospitium.evaluation.score_sums import NUM_BINS
from hospitium.imaging.fingerprint.release import from_bytes
from hospitium.privacy.clipping import l2_norm
from hospitium.privacy.exact_sum import NORM_TOLERANCE
from hospitium.types import Params, Task, Update
from hospitium.wire import blob
from hospitium.wire.envelope import encode_update

RECORD = "egress.jsonl"

Kind: TypeAlias = Literal[
    "enrolment", "approval", "refusal", "withdrawal", "error", "sealed_update"
]
"""What leaves beside updates; a sealed update is the file in which a recorded update travels."""

MAX_BYTES: Mapping[Kind | Literal["heartbeat"], int] = MappingProxyType(
    {
        "enrolment": 1 << 16,
        "approval": 1 << 16,
        "refusal": 1 << 16,
        "withdrawal": 1 << 16,
        "error": 1 << 12,
        "sealed_update": 1 << 40,
        "heartbeat": 1 << 10,
    }
)
BEATS_A_DAY = 5000
"""What the one line of a day allows: real events would drown in a line for each heartbeat."""

SUM_NAMES = re.compile(
    r"n|not_finite|loss|confusion|log_norm|(positives|negatives)\.\d{1,4}", re.ASCII
)
"""What metric sums may be called; ``positives.3`` is the fourth class's ``positives``."""


def release(
    update: Update, *, task: Task, outbox: Path, record: Path, sync: bool = True
) -> tuple[bytes, Path | None]:
    """Check an update against what may leave, write its bytes, record them; return both.

    The bytes of the change are in a file of the outbox, named by their digest, before the line in
    the record is; nothing is sent before that line is synced.

    Args:
        update: What is to leave.
        task: What it answers.
        outbox: Folder for the file of the change.
        record: The site's own log of everything that left, one JSON line each.
        sync: False where the file is sealed at once, and the sealed one synced and kept instead.

    Returns:
        The envelope, and the file of the change (None for a score).

    Raises:
        SiteError: The update holds something that may not leave. Nothing was written.
    """
    _check(update, task)
    path, digest = (None, "") if not update.delta else _write(update.delta, outbox, sync=sync)
    envelope = encode_update(replace(update, path=None), blob_digest=digest)
    _append(
        record,
        {
            "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": "update" if update.delta else "scores",
            "run_id": update.run_id,
            "round_number": update.round_number,
            "plan_digest": update.plan_digest,
            "bytes": len(envelope) + (path.stat().st_size if path else 0),
            "sha256": digest,
            "num_arrays": len(update.delta),
            "sums": sorted(update.sums),
        },
    )
    return envelope, path


def hand_over_fingerprint(payload: bytes, *, path: Path, record: Path) -> None:
    """Check, record, then write a data fingerprint where a person takes it from.

    The line in the record is synced before the file is there.

    Args:
        payload: Exactly what leaves: the bytes of a suppressed fingerprint.
        path: Of the file; an older one is replaced.
        record: The site's own log of everything that left.

    Raises:
        SiteError: It is no suppressed fingerprint. Nothing was recorded or written.
    """
    try:
        fingerprint = from_bytes(payload, where="egress")
    except DataError as error:
        raise SiteError("egress refused what is no suppressed fingerprint") from error
    record.parent.mkdir(parents=True, exist_ok=True)
    _append(
        record,
        {
            "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": "fingerprint",
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
            "fields": sorted(fingerprint.counts),
            "least": fingerprint.least,
        },
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Departures:
    """Records what leaves for one federation beside updates; threads may share it.

    The same bytes are recorded once, however often they are sent: a line means "recorded, perhaps
    sent". There is no "sent, not recorded".

    Args:
        record: The site's own log of everything that left, one JSON line each.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._known: set[tuple[str, str]] | None = None

    def message(self, kind: Kind, content: bytes, **facts: str | int) -> None:
        """Record that a message leaves, durably; see `file`."""
        self.file(kind, hashlib.sha256(content).hexdigest(), len(content), **facts)

    def file(self, kind: Kind, sha256: str, size_bytes: int, **facts: str | int) -> None:
        """Record that bytes of this digest leave, durably.

        Args:
            kind: What they are.
            sha256: Of the bytes.
            size_bytes: How many.
            facts: What else the line says; no path, and nothing about a patient.

        Raises:
            SiteError: They are of no kind that leaves, or too many. Nothing was recorded.
        """
        _require_size(kind, size_bytes)
        self._once(kind, sha256, {**facts, "bytes": size_bytes, "sha256": sha256})

    def heartbeat(self, content: bytes) -> None:
        """Record the heartbeats of this day, before the first of them: how many, how large at most.

        Raises:
            SiteError: This one is larger. Nothing was recorded.
        """
        _require_size("heartbeat", len(content))
        day = datetime.now(UTC).date().isoformat()
        most = BEATS_A_DAY * MAX_BYTES["heartbeat"]
        self._once("heartbeat", day, {"day": day, "count": BEATS_A_DAY, "bytes": most})

    def _once(self, kind: str, name: str, entry: Mapping[str, str | int]) -> None:
        """Add a line, unless one of this kind has this name: a digest, or a day."""
        with self._lock:
            known = self._read() if self._known is None else self._known
            self._known = known
            if (kind, name) not in known:
                self._record.parent.mkdir(parents=True, exist_ok=True)
                time = datetime.now(UTC).isoformat(timespec="seconds")
                _append(self._record, {**entry, "kind": kind, "time_utc": time})
                known.add((kind, name))

    def _read(self) -> set[tuple[str, str]]:
        """Return what was recorded; a line that was cut off is none."""
        found: set[tuple[str, str]] = set()
        with suppress(OSError):
            for line in self._record.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    found.add((entry["kind"], entry.get("day") or entry["sha256"]))
        return found


def _require_size(kind: str, size_bytes: int) -> None:
    if kind not in MAX_BYTES or size_bytes > MAX_BYTES[kind]:  # type: ignore[index]
        raise SiteError("egress refused a message of a kind or size that does not leave")


def _check(update: Update, task: Task) -> None:
    expected = blob.manifest_of(task.params) if task.purpose == "train" else ()
    if blob.manifest_of(update.delta) != expected:
        raise SiteError("egress refused an update that does not have the shape of the model")
    if not all(_may_leave(name, values) for name, values in update.sums.items()):
        raise SiteError("egress refused a metric sum that is not on its list")
    if not l2_norm(update.delta) <= task.max_norm * NORM_TOLERANCE:
        raise SiteError("egress refused an update above the bound that the task sets")


def _may_leave(name: str, values: Sequence[int]) -> bool:
    """Whether a metric sum has a name of the list, and the length that belongs to it."""
    if not SUM_NAMES.fullmatch(name):
        return False
    if name == "confusion":
        return math.isqrt(len(values)) ** 2 == len(values)
    kind = name.split(".")[0]
    return len(values) == {"log_norm": NORM_BINS, "positives": NUM_BINS, "negatives": NUM_BINS}.get(
        kind, 1
    )


def _write(delta: Params, outbox: Path, *, sync: bool) -> tuple[Path, str]:
    """Write a change to the outbox under the name of its digest."""
    outbox.mkdir(parents=True, exist_ok=True)
    temporary = outbox / f".{os.getpid()}.part"
    with temporary.open("wb") as file:
        digest = blob.write(file, delta)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    path = outbox / f"{digest}.safetensors"
    temporary.replace(path)
    return path, digest


def _append(record: Path, entry: dict[str, object]) -> None:
    """Add one line to the record, durably; a line that was cut off stays, by itself."""
    line = json.dumps(entry, sort_keys=True) + "\n"
    with record.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
