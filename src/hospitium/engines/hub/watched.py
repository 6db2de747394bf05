"""What a site keeps of a coordinator's log of one run: what it saw, cosigned, sent; or evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.engines.hub.opening import Logged
from hospitium.errors import CorruptedError, TrustError
from hospitium.state import durable
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import Checkpoint, read_note
from hospitium.wire.cosignatures import Asking, Cosignature
from hospitium.wire.statement import time_text

WATCH = "watch"
"""The folder of what was seen, in the folder of a site's work for a federation."""

SET_ASIDE = "watch-set-aside"
"""Beside it: what was seen of a run before a person here had the site go on with it."""


@dataclass(frozen=True, kw_only=True)
class Own:
    """What a site was told in one round when it cosigned.

    Attributes:
        round_number: The round.
        purpose: ``train`` or ``score``.
        base_digest: Of the model.
        asked: Number of the log entry that asks.
        told: Digests of the member list and of the list of sites.
        statements: SHA-256 of what was sent in answer.
    """

    round_number: int
    purpose: str
    base_digest: str
    asked: int
    told: tuple[str, str]
    statements: tuple[str, ...] = ()

    @classmethod
    def of(cls, asking: Asking, *, asked: int) -> Own:
        """Return it for what is asked as this entry."""
        return cls(
            round_number=asking.round_number,
            purpose=asking.purpose,
            base_digest=asking.base_digest,
            asked=asked,
            told=(asking.members_digest, asking.sites_digest),
        )

    @classmethod
    def of_cosignature(cls, found: Cosignature) -> Own:
        """Return it for what another site cosigned."""
        return cls(
            round_number=found.round_number,
            purpose=found.purpose,
            base_digest=found.base_digest,
            asked=found.asked,
            told=(found.members_digest, found.sites),
        )


class WatchedRun:
    """The folder of one run. What is in it outlives the run: it may be evidence.

    Args:
        folder: Where it is; made with the first thing that is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint that was seen and held; None before the first.

        Raises:
            CorruptedError: The file is not what was written.
        """
        path = self.folder / "seen.note"
        if not path.is_file():
            return None
        try:
            return read_note(path.read_text(encoding="utf-8"))[0]
        except (TrustError, ValueError) as error:
            raise _damaged(path) from error

    def remember(self, checkpoint: str) -> None:
        """Keep the checkpoint that was just verified, durably: the log goes on from it."""
        path = self.folder / "seen.note"
        if not path.is_file() or path.read_text(encoding="utf-8") != checkpoint:
            self._write(self.folder / "shown.txt", self._shown() + _line_of(checkpoint))
            self._write(path, checkpoint.encode())

    def was_shown(self, checkpoint: str) -> bool:
        """Whether this very checkpoint was seen before, and held."""
        return _line_of(checkpoint) in self._shown()

    def own(self, round_number: int) -> Own | None:
        """Return what this site cosigned when it trained in a round; None if it did not."""
        return self._read_own(self._place(round_number, "train", ""))

    def last_own(self, *, before: int) -> int:
        """Return the last round before one in which this site cosigned a training; 0 for none."""
        names = (path.stem.removeprefix("train-") for path in self.folder.glob("train-*.json"))
        return max((number for name in names if (number := int(name)) < before), default=0)

    def keep(self, own: Own) -> None:
        """Keep what is cosigned, durably, before the cosignature leaves."""
        path = self._place(own.round_number, own.purpose, own.base_digest)
        before = self._read_own(path)
        if before is not None:
            own = replace(own, statements=before.statements)
        self._write_own(path, own)

    def sent(self, asking: Asking, statement_sha256: str) -> None:
        """Add the statement that leaves to what was cosigned with it."""
        path = self._place(asking.round_number, asking.purpose, asking.base_digest)
        own = self._read_own(path)
        if own is not None and statement_sha256 not in own.statements:
            self._write_own(path, replace(own, statements=(*own.statements, statement_sha256)))

    def take_logged(self, round_number: int, entry: Logged, *, checkpoint: str) -> None:
        """Keep the proof that an answer of this site is in the coordinator's log."""
        path = self.folder / f"logged-{round_number:06d}.json"
        if not path.is_file():
            fields: Json = {
                "n": entry.n,
                "entry": entry.data.decode(),
                "proof": [hash_.hex() for hash_ in entry.proof],
                "checkpoint": checkpoint,
            }
            self._write(path, canonical_json(fields))

    def logged(self) -> list[dict[str, Any]]:
        """Return each proof that was kept, by round."""
        paths = sorted(self.folder.glob("logged-*.json"))
        return [json.loads(path.read_bytes()) for path in paths]

    def stop(self, error: TrustError, *, ask: bytes) -> None:
        """End this site's part in the run; keep the task and what was seen before it."""
        self._write(self.folder / "evidence-task.dsse", ask)
        seen = self.folder / "seen.note"
        if seen.is_file():
            self._write(self.folder / "evidence-seen.note", seen.read_bytes())
        fields: Json = {
            "reason": error.reason,
            "words": str(error),
            "time": time_text(datetime.now(UTC)),
        }
        self._write(self.folder / "stopped.json", canonical_json(fields))

    def stopped(self) -> Mapping[str, str] | None:
        """Return why and when this site's part in the run ended; None while it goes on.

        A note that is damaged says that it ended, too.
        """
        path = self.folder / "stopped.json"
        if not path.is_file():
            return None
        try:
            fields = json.loads(path.read_bytes())
            return {"reason": str(fields["reason"]), "words": str(fields["words"]), **fields}
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"reason": "canonical", "words": _DAMAGED}

    def set_aside(self, into: Path) -> Path:
        """Move all that was seen of this run, evidence and all, into a numbered folder; return it.

        It is one rename: a crash leaves it stopped, or set aside. The site begins to watch anew,
        from the first checkpoint that it is shown next.
        """
        durable.make_folder(into, mode=0o700)
        number = 1 + max((int(path.name) for path in into.glob("[0-9]*")), default=0)
        target = into / f"{number:04d}"
        durable.move(self.folder, target)
        return target

    def require_going_on(self) -> None:
        """Refuse a run that was ended.

        Raises:
            TrustError: With the reason of that time.
        """
        if found := self.stopped():
            raise TrustError(found["reason"], found["words"])

    # --- inside ---------------------------------------------------------------------------------

    def _shown(self) -> bytes:
        """Return the SHA-256 of every checkpoint that was seen, a line for each."""
        path = self.folder / "shown.txt"
        return path.read_bytes() if path.is_file() else b""

    def _place(self, round_number: int, purpose: str, base_digest: str) -> Path:
        """Return where it is kept: a round trains on one model, and may score several."""
        which = f"-{base_digest[:16]}" if purpose == "score" else ""
        return self.folder / f"{purpose}-{round_number:06d}{which}.json"

    def _read_own(self, path: Path) -> Own | None:
        if not path.is_file():
            return None
        try:
            fields = json.loads(path.read_bytes())
            told, statements = fields.pop("told"), fields.pop("statements")
            return Own(**fields, told=(told[0], told[1]), statements=tuple(statements))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _damaged(path) from error

    def _write_own(self, path: Path, own: Own) -> None:
        fields = {**asdict(own), "told": list(own.told), "statements": list(own.statements)}
        self._write(path, canonical_json(fields))

    def _write(self, path: Path, data: bytes) -> None:
        durable.make_folder(self.folder, mode=0o700)
        durable.write_atomically(path, lambda file: str(file.write(data)))


def _damaged(path: Path) -> CorruptedError:
    return CorruptedError(
        f"{path.parent.name}/{path.name}: what this site saw of the coordinator's log cannot be "
        "read. It was left as it is, and no task of this run is answered. The site: restore the "
        "file from a backup."
    )


def _line_of(checkpoint: str) -> bytes:
    return f"{digest(checkpoint.encode())}\n".encode()


_DAMAGED = (
    "This site's part in the run has ended; the note that says why, stopped.json, is damaged. The "
    "site's staff: look at the evidence beside it, and restore the note from a backup."
)


def stopped_runs(folder: Path) -> list[dict[str, str]]:
    """Return the runs that this site ended its part in, and why.

    Args:
        folder: Where what was seen is kept, with a folder for each run.
    """
    found = []
    for path in sorted(folder.glob("*/stopped.json")):
        stopped = WatchedRun(path.parent).stopped() or {}
        found.append({"run_id": path.parent.name, **stopped})
    return found
