"""A site's answers on disk: kept before they leave, and until the coordinator has signed for them.

One small file for each answered task, named by the SHA-256 of the task, and beside it the file of
the change. They are deleted when a receipt is here and the run has gone on to a later round;
without a receipt they stay. The process that trains can put nothing here: it writes to the outbox.
What leaves is another file, which this process wrote from what it read there, once: sealed, where
the task names a run key. Each try sends the same bytes.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from hospitium.engines.hub.uploading import remember
from hospitium.errors import CorruptedError, StorageError, UpdateError
from hospitium.site.egress import spares_of
from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.types import Json, Task, Update
from hospitium.wire.blob import Exactly
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.envelope import binding_of, encode_update
from hospitium.wire.running_digest import RunningDigest
from hospitium.wire.sealing import seal

SEALED, PLAIN = ".sealed", ".safetensors"

NUM_SPARES = 2
"""The change that leaves next, and the model that comes next, are written over these."""

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

    @contextmanager
    def opened(self, path: Path) -> Iterator[BinaryIO | None]:
        """Open what a worker wrote, to be read once; None: there is nothing.

        Raises:
            UpdateError: It is no plain file, or closed to its own user (``header``): a link could
                lead to what a worker may not see.
            StorageError: The disk refused.
        """
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
                raise _not_plain() from error
            raise durable.storage_error(path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_plain()
            with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
                yield cast(BinaryIO, file)
        finally:
            os.close(descriptor)

    def let_go(self, path: Path) -> None:
        """Leave what a worker wrote to it, to be written over with its next; or delete it."""
        with suppress(StorageError):  # the folder is the worker's, who may have closed it
            self._written.keep(path)

    def made(
        self,
        task: bytes,
        *,
        update: Update,
        change: BinaryIO | Exactly | None,
        run_key: str = "",
    ) -> Kept:
        """Return an answer as it leaves: its file is written, durably; sealed where there is a key.

        Its envelope names the digest of the change as this process read it, whatever a worker
        said: else the record would say of what leaves what it is not.

        Args:
            task: What was asked, exactly.
            update: The answer.
            change: The file of the change; it is read once.
            run_key: The run's public key; "" where the file leaves as it is.

        Raises:
            UpdateError: It cannot be sealed to this key (``fields``).
            CorruptedError: The change is not what it must be.
            StorageError: The disk refused.
        """
        if change is None:
            return Kept(kind="update", content=encode_update(update, blob_digest=""), file=None)
        running, binding, source = RunningDigest(), binding_of(update), cast(BinaryIO, change)

        def write(out: BinaryIO) -> tuple[str, str]:
            if run_key:
                return seal(source, out, run_key=run_key, binding=binding, running=running)
            sha256 = _copy(source, out)
            return sha256, sha256

        path = self._path(task).with_suffix(SEALED if run_key else PLAIN)
        sha256, content_sha256 = durable.write_atomically(path, write, take=self.spares.take)
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
        """Delete what lies in the outbox, and files of no answer, unless an answer is damaged."""
        durable.sweep(self._folder)
        self.spares.clear()
        self._written.clear()
        with suppress(StorageError, OSError):  # the folder is the worker's
            for path in sorted(self.outbox.iterdir()):
                if path.is_symlink() or not path.is_dir():
                    durable.delete(path)
        with suppress(CorruptedError):
            named = {_read(path)["file"] for path in self._folder.glob("*.json")}
            for path in sorted(self._folder.iterdir()):
                if path.suffix in (SEALED, PLAIN) and path.name not in named:
                    durable.delete(path)

    def _path(self, task: bytes) -> Path:
        return self._folder / f"{digest(task)}.json"


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy a file into another and return the SHA-256 of what was written."""
    sha256 = hashlib.sha256()
    while piece := source.read(1 << 20):
        sha256.update(piece)
        target.write(piece)
    return sha256.hexdigest()


def _not_plain() -> UpdateError:
    return UpdateError("header", "An answer was not kept: its file is no plain file.")


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
