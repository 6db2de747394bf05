"""A site's answers on disk: kept before they leave, and until the coordinator has signed for them.

One small file for each answered task, named by the SHA-256 of the task, and beside it the file of
the change. They are deleted when a receipt is here and the run has gone on to a later round;
without a receipt they stay. The process that trains can put nothing here: it writes to the outbox,
from which its file is taken before anything of it is believed. It may still hold that file open, so
what leaves is another one, which this process wrote from what it read, once: sealed, where the task
names a run key. Each try sends the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from hospitium.engines.hub.uploading import remember
from hospitium.errors import CorruptedError, StorageError, UpdateError
from hospitium.site.egress import spares_of
from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.types import Json, Task, Update
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.envelope import binding_of, encode_update
from hospitium.wire.running_digest import RunningDigest
from hospitium.wire.sealing import seal

SEALED, PLAIN, TAKEN = ".sealed", ".safetensors", ".taken"

NUM_SPARES = 2
"""The change that is sealed next, and the model that comes next, are written over these."""

_FIELDS = ("run_id", "round_number", "envelope", "file", "sha256", "run_key", "facts")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer as it leaves: an update's envelope with its file, or words about an error.

    ``sha256`` is that of the file, "" where there is none; ``facts`` are for the site's record.
    """

    kind: Literal["update", "error"]
    content: bytes
    file: Path | None
    sha256: str = ""
    facts: Mapping[str, Json] = field(default_factory=dict)

    @property
    def sealed(self) -> str:
        """SHA-256 of the file, if it is a sealed one; else ""."""
        return self.sha256 if self.file is not None and self.file.suffix == SEALED else ""


class Answers:
    """The answers of one site. What an interrupted answer left behind is deleted at the start.

    Attributes:
        outbox: Where a worker writes a change.
        spares: What this process wrote and nobody needs any more; a worker does not touch it.

    Args:
        folder: The site's own folder.
    """

    def __init__(self, folder: Path) -> None:
        self.outbox = durable.make_folder(folder / "outbox")
        self.spares = Spares(folder / "spares", most=NUM_SPARES)
        self._written = spares_of(self.outbox)
        self._folder = durable.make_folder(folder / "answers")
        self._delete_unnamed()

    def find(self, task: bytes, *, run_key: str = "") -> Kept | None:
        """Return the answer that was given to a task, if it is kept still and whole.

        An answer that was sealed to another key than the run has now cannot be read by anybody: it
        counts as none.
        """
        path = self._path(task)
        if not path.is_file():
            return None
        fields = _read(path)
        file = self._folder / fields["file"] if fields["file"] else None
        if file is not None and (not file.is_file() or fields["run_key"] != run_key):
            return None
        return Kept(
            kind="update",
            content=base64.b64decode(fields["envelope"]),
            file=file,
            sha256=fields["sha256"],
            facts=fields["facts"],
        )

    def has_other(self, task_bytes: bytes, *, task: Task) -> bool:
        """Whether an update is kept that answers another task of the same run and round."""
        own = self._path(task_bytes)
        kept = (_read(path) for path in self._folder.glob("*.json") if path != own)
        place = (task.run_id, task.round_number)
        return any(row["file"] and (row["run_id"], row["round_number"]) == place for row in kept)

    def take(self, task: bytes, path: Path) -> Path | None:
        """Take a file out of the outbox to where no worker finds it; None: there is none.

        Args:
            task: What was asked, exactly.
            path: The file, as the worker named it.

        Raises:
            UpdateError: It is no plain file (``header``): a link could lead to what a worker may
                not see. It was left as it is.
            StorageError: The disk refused.
        """
        file = self._path(task).with_suffix(TAKEN)
        with durable.storage_errors(path):
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    path.replace(file)
                    if stat.S_ISREG(file.lstat().st_mode):
                        return file
                    _throw_away(file)  # exchanged at this moment
            except FileNotFoundError:
                return None
        raise UpdateError("header", "An answer was not kept: its file is no plain file.")

    def let_go(self, file: Path) -> None:
        """Give a file that was taken back to the workers, to be written over with their next."""
        with suppress(StorageError):  # it is deleted at the next start
            self._written.keep(file)

    def made(self, task: bytes, *, update: Update, file: Path | None, run_key: str = "") -> Kept:
        """Return an answer as it leaves: its file is written, durably; sealed where there is a key.

        Its envelope names the digest of the change as this process found it, whatever a worker
        said: else the record would say of what leaves what it is not.

        Args:
            task: What was asked, exactly.
            update: The answer.
            file: The change, as it was taken. It stays: let it go when the answer is kept.
            run_key: The run's public key; "" where the file leaves as it is.

        Raises:
            UpdateError: It cannot be sealed to this key (``fields``).
            StorageError: The disk refused.
        """
        if file is None:
            return Kept(kind="update", content=encode_update(update, blob_digest=""), file=None)
        path = self._path(task).with_suffix(SEALED if run_key else PLAIN)
        running, binding = RunningDigest(), binding_of(update)

        def write(source: BinaryIO, out: BinaryIO) -> tuple[str, str]:
            if run_key:
                return seal(source, out, run_key=run_key, binding=binding, running=running)
            sha256 = _copy(source, out)
            return sha256, sha256

        with durable.storage_errors(file), file.open("rb") as source:
            sha256, content_sha256 = durable.write_atomically(
                path, lambda out: write(source, out), take=self.spares.take
            )
        if run_key:
            remember(sha256, running.through())
        content = encode_update(update, blob_digest=content_sha256)
        return Kept(kind="update", content=content, file=path, sha256=sha256)

    def keep(self, task_bytes: bytes, kept: Kept, *, task: Task, run_key: str = "") -> None:
        """Write an answer, durably, before it leaves.

        Args:
            task_bytes: What was asked, exactly.
            kept: The answer, as it was `made`, with what the site's record is to say of it.
            task: What was asked, read.
            run_key: The same as it was made with.
        """
        fields: Json = {
            "run_id": task.run_id,
            "round_number": task.round_number,
            "envelope": base64.b64encode(kept.content).decode(),
            "file": "" if kept.file is None else kept.file.name,
            "sha256": kept.sha256,
            "run_key": run_key if kept.sealed else "",
            "facts": kept.facts,
        }
        data = canonical_json(fields)
        durable.write_atomically(self._path(task_bytes), lambda out: str(out.write(data)))

    def receipted(self, task: bytes, receipt: bytes) -> None:
        """Keep the receipt for the answer to a task; an error's is not needed."""
        if self._path(task).is_file():
            path = self._path(task).with_suffix(".receipt")
            durable.write_atomically(path, lambda out: str(out.write(receipt)))

    def delete_before(self, run_id: str, round_number: int) -> None:
        """Delete a run's answers of earlier rounds, where a receipt is here."""
        for receipt in sorted(self._folder.glob("*.receipt")):
            path = receipt.with_suffix(".json")
            fields = _read(path) if path.is_file() else None
            if fields is None:
                durable.delete(receipt)
            elif fields["run_id"] == run_id and fields["round_number"] < round_number:
                if fields["file"]:
                    self.spares.keep(self._folder / fields["file"])
                durable.delete(path)
                durable.delete(receipt)

    def _delete_unnamed(self) -> None:
        """Delete the files that belong to no answer; none of them while an answer is damaged."""
        durable.sweep(self._folder)
        self.spares.clear()
        self._written.clear()
        left = [path for path in self.outbox.iterdir() if path.is_symlink() or not path.is_dir()]
        left += self._folder.glob(f"*{TAKEN}")
        with suppress(CorruptedError):
            named = {_read(path)["file"] for path in self._folder.glob("*.json")}
            files = (path for path in self._folder.iterdir() if path.suffix in (SEALED, PLAIN))
            left += [path for path in files if path.name not in named]
        for path in sorted(left):
            _throw_away(path)

    def _path(self, task: bytes) -> Path:
        return self._folder / f"{digest(task)}.json"


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy a file into another and return the SHA-256 of what was written."""
    sha256 = hashlib.sha256()
    while piece := source.read(1 << 20):
        sha256.update(piece)
        target.write(piece)
    return sha256.hexdigest()


def _throw_away(path: Path) -> None:
    """Delete a file, or a folder in the place of one, as far as it can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        durable.delete(path)


def _read(path: Path) -> dict[str, Any]:
    """Return what was kept of an answer."""
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        return {name: fields[name] for name in _FIELDS}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptedError(
            f"{path.name}: an answer that was kept cannot be read. It was left as it is. "
            "The site: restore it from a backup, or delete it, then the task is worked on again."
        ) from error
