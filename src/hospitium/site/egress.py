"""The only way out of a site: what may leave, and the record of it before its first byte does.

An update is the change of the params, of exactly the names and shapes that came in and within the
bound of the task; sums of integers under names and of lengths from a closed list; and counts. There
is no field for anything else: no text, no path, no identifier of a case. A fingerprint of the data
is counts of at least ten subjects, and leaves as a file that a person asked for. Whatever else
leaves is of the closed list in `leaving.py`. Questions that hold nothing but who asks are not on
it.

Each departure goes the same way, in `Egress`: it is checked; its entry is in the site's record,
synced; its bytes are signed and kept; they are sent; the receipt is kept. A crash in between leaves
"recorded, perhaps sent", and the same bytes go out again. There is no "sent, not recorded".

What trains is another process, without network, keys and record. It writes its update by `prepare`.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.algorithms.norm_bound import NUM_BINS as NORM_BINS
from hospitium.errors import DataError, SiteError, TrustError, UpdateError
from hospitium.evaluation.score_sums import NUM_BINS
from hospitium.imaging.fingerprint.release import from_bytes
from hospitium.privacy.clipping import l2_norm
from hospitium.privacy.exact_sum import NORM_TOLERANCE
from hospitium.site.departures import Departures
from hospitium.site.leaving import FORMS, Answering, Channel, Departure, Kind
from hospitium.site.public_words import closed
from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.types import Json, Params, Sums, Task, Update
from hospitium.wire import blob, statement
from hospitium.wire.envelope import decode_update, encode_update
from hospitium.wire.statement import is_count, is_hex, is_text

BEATS_A_DAY = 5000
"""What the one entry of a day allows: real events would drown in one for each heartbeat."""

DRY_RUN = "dry_run"
"""The reason with which a line says that it was asked to send nothing."""

SUM_NAMES = re.compile(
    r"n|not_finite|loss|confusion|log_norm|(positives|negatives)\.\d{1,4}", re.ASCII
)
"""What metric sums may be called; ``positives.3`` is the fourth class's ``positives``."""


def prepare(
    update: Update, *, task: Task, outbox: Path, is_sealed: bool = False
) -> tuple[bytes, Path | None]:
    """Check an update against what may leave and write its bytes; for the process that trains.

    Args:
        update: What is to leave.
        task: What it answers.
        outbox: Folder for the file of the change, which is named by its digest.
        is_sealed: Whether the agent seals the file at once. It is neither synced nor hashed then,
            is named by the task (`unsealed_path`), and the envelope names no digest: whoever seals
            it writes that in.

    Returns:
        The envelope, and the file of the change (None for a score).

    Raises:
        SiteError: The update holds something that may not leave. Nothing was written.
    """
    _require(
        _is_of_shape(update.delta, task), "an update that does not have the shape of the model"
    )
    _require(_may_leave(update.sums), "a metric sum that is not on its list")
    is_bounded = l2_norm(update.delta) <= task.max_norm * NORM_TOLERANCE
    _require(is_bounded, "an update above the bound that the task sets")
    path, digest = None, ""
    if update.delta:
        unsealed = unsealed_path(outbox, task) if is_sealed else None
        path, digest = _write(update.delta, outbox, unsealed=unsealed)
    return encode_update(replace(update, path=None), blob_digest=digest), path


def unsealed_path(outbox: Path, task: Task) -> Path:
    """Return where the change that answers a task lies until it is sealed."""
    return outbox / f"{task.run_id}.{task.round_number}.unsealed"


def spares_of(outbox: Path) -> Spares:
    """Return what workers wrote to an outbox and nobody needs any more: for their next change."""
    return Spares(outbox / "spares", most=1)


def inspect(
    envelope: bytes,
    *,
    has_file: bool,
    task: Task,
    site_id: str,
    num_cases: int,
    is_sealed: bool = False,
) -> Update:
    """Check what the process that trains has written, before it is recorded; return it.

    Args:
        envelope: What it says.
        has_file: Whether there is a file of the change. What is in it is checked as it is read:
            `hospitium.wire.blob.Exactly`.
        task: What it answers.
        site_id: What this site is called.
        num_cases: With how many cases it takes part.
        is_sealed: Whether the file is sealed next; the envelope names no digest then.

    Raises:
        SiteError: It is not what `prepare` writes for this task: it does not leave.
    """
    try:
        update, digest = decode_update(envelope)
    except UpdateError as error:
        raise SiteError("egress refused an answer that is not of its form") from error
    expected = replace(
        update,
        run_id=task.run_id,
        round_number=task.round_number,
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        site_id=site_id,
        num_cases=num_cases,
    )
    _require(update == expected, "an answer to something else than the task")
    _require(
        has_file == (task.purpose == "train") and bool(digest) == (has_file and not is_sealed),
        "a file too many or too few",
    )
    _require(_may_leave(update.sums), "a metric sum that is not on its list")
    return update


class Egress:
    """Lets out what may leave for one federation; threads may share it.

    Args:
        departures: The site's record of everything that left.
        destination: Where it goes, in a word for the record.
        instead: Where answers go instead of the line, for a dry run. They are recorded, and the
            next real try sends the same bytes.
    """

    def __init__(
        self, departures: Departures, *, destination: str, instead: Answering | None = None
    ) -> None:
        self.departures = departures
        self._destination = destination
        self._instead = instead

    def answer(
        self,
        departure: Departure,
        channel: Answering,
        *,
        sign: Callable[[str], bytes],
        require: Callable[[bytes, bytes], object],
    ) -> bytes:
        """Let the answer to a task leave, and return the coordinator's receipt.

        Args:
            departure: What is to leave.
            channel: On which.
            sign: Makes the signed statement of it, given the site's checkpoint with its entry.
            require: Raises unless a receipt is for a statement.

        Raises:
            SiteError: It may not leave. Nothing was recorded.
            HospitiumError: It was not sent, or the receipt is none. It is recorded, and the next
                try sends the same bytes.
        """
        n = self.record(departure)
        signed = self.signed(n, sign)
        line = self._instead or channel
        if departure.file is None:
            receipt = line.send(signed)
        else:
            receipt = line.upload(departure.file, departure.sha256, signed)
        require(receipt, signed)
        self.departures.keep_receipt(n, receipt)
        return receipt

    def say(
        self,
        kind: Kind,
        said: bytes,
        channel: Channel,
        *,
        plan_digest: str,
        require: Callable[[bytes, bytes], object],
    ) -> None:
        """Let an approval, a refusal or a withdrawal leave; see `answer`."""
        n = self.message(kind, said, plan_digest=plan_digest)
        receipt = channel.say(said)
        require(receipt, said)
        self.departures.keep_receipt(n, receipt)

    def enrol(self, request: bytes, channel: Channel) -> str:
        """Let an enrolment request leave; return the digest that came in."""
        self.message("enrolment", request)
        return channel.enrol(request)

    def beat(self, content: bytes, channel: Channel) -> dict[str, Any]:
        """Let a heartbeat leave; one entry of a day says how many, and how large at most."""
        if len(content) > FORMS["heartbeat"].most:
            raise SiteError("egress refused a heartbeat that is too large")
        day = datetime.now(UTC).date().isoformat()
        most = BEATS_A_DAY * FORMS["heartbeat"].most
        self._append("heartbeat", {"day": day, "count": BEATS_A_DAY, "bytes": most})
        return channel.beat(content)

    def hand_over_fingerprint(self, payload: bytes, *, path: Path) -> None:
        """Record a data fingerprint, then write it where a person takes it from.

        Args:
            payload: Exactly what leaves: the bytes of a suppressed fingerprint.
            path: Of the file; an older one is replaced.

        Raises:
            SiteError: It is no suppressed fingerprint. Nothing was recorded or written.
        """
        try:
            shown = from_bytes(payload, where="egress")
        except DataError as error:
            raise SiteError("egress refused what is no suppressed fingerprint") from error
        self.message("fingerprint", payload, fields=sorted(shown.counts), least=shown.least)
        durable.write_atomically(path, lambda file: str(file.write(payload)))

    def message(self, kind: Kind, content: bytes, **facts: Json) -> int:
        """Record that these bytes leave, keep them, and return the number of the entry.

        For what a person carries; what is sent, is sent by the other methods.

        Raises:
            SiteError: They are of no kind that leaves, or too many. Nothing was recorded.
        """
        n = self.record(Departure(kind=kind, content=content, facts=facts))
        self.departures.keep(n, content)
        return n

    def record(self, departure: Departure) -> int:
        """Check what is to leave against `FORMS`, and record it; return the entry's number."""
        size_bytes = len(departure.content)
        if departure.file is not None:
            size_bytes += departure.file.stat().st_size
        sha256 = departure.sha256 or hashlib.sha256(departure.content).hexdigest()
        if departure.kind not in FORMS or size_bytes > FORMS[departure.kind].most:
            raise SiteError("egress refused a message of a kind or size that does not leave")
        if departure.kind == "error":
            words = departure.content.decode("utf-8", errors="replace")
            _require(words == closed(words), "words that are not on their list")
        facts = {**departure.facts, "bytes": size_bytes, "sha256": sha256}
        return self._append(departure.kind, facts)

    def signed(self, n: int, sign: Callable[[str], bytes]) -> bytes:
        """Return the signed statement of an entry: the same bytes at each try, on disk first."""
        kept = self.departures.payload(n)
        if kept is not None and self.departures.is_own(kept):
            return kept
        made = sign(self.departures.checkpoint(n))
        self.departures.keep(n, made)
        return made

    def _append(self, kind: Kind, facts: Mapping[str, Json]) -> int:
        entry = {**facts, "destination": self._destination}
        checks = {"bytes": is_count, "destination": is_text, **FORMS[kind].facts}
        if kind != "heartbeat":
            checks["sha256"] = is_hex
        try:
            statement.read(kind, statement.write(kind, entry), checks)
        except TrustError as error:
            raise SiteError("egress refused an entry that is not of its form") from error
        return self.departures.record(kind, entry)


def _require(is_fine: bool, what: str) -> None:
    if not is_fine:
        raise SiteError(f"egress refused {what}")


def _is_of_shape(delta: Params, task: Task) -> bool:
    expected = blob.manifest_of(task.params) if task.purpose == "train" else ()
    return blob.manifest_of(delta) == expected


def _may_leave(sums: Sums) -> bool:
    """Whether each metric sum has a name of the list, and the length that belongs to it."""
    return all(_is_listed(name, values) for name, values in sums.items())


def _is_listed(name: str, values: Sequence[int]) -> bool:
    if not SUM_NAMES.fullmatch(name):
        return False
    if name == "confusion":
        return math.isqrt(len(values)) ** 2 == len(values)
    lengths = {"log_norm": NORM_BINS, "positives": NUM_BINS, "negatives": NUM_BINS}
    return len(values) == lengths.get(name.split(".")[0], 1)


def _write(delta: Params, outbox: Path, *, unsealed: Path | None) -> tuple[Path, str]:
    """Write a change to the outbox: durably under the name of its digest, or as it is sealed next.

    The digest of what is sealed next is "": it is hashed when it is sealed.
    """
    outbox.mkdir(parents=True, exist_ok=True)
    temporary, digest = outbox / f".{os.getpid()}.part", ""
    has_old_bytes = spares_of(outbox).take(temporary)
    with temporary.open("r+b" if has_old_bytes else "wb") as file:
        if unsealed:
            file.writelines(blob.blocks_of(delta))
        else:
            digest = blob.write(file, delta)
        file.truncate()
        if not unsealed:
            os.fsync(file.fileno())
    return temporary.replace(unsealed or outbox / f"{digest}.safetensors"), digest
