"""Files that come in as chunks, and what became of them: unfinished, received, needed no more.

An upload is named by the SHA-256 that its sender promises, and belongs to its sender alone. A whole
file is synced once and renamed, not copied.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from hospitium.errors import StateConflictError, UpdateError
from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.state.unfinished import (
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    NotNextError,
    Shape,
    Unfinished,
    start_notes,
    through,
)
from hospitium.wire.sealing import make_unopenable

MAX_OPEN = 4
"""Unfinished uploads of one sender; a further one takes the place of the oldest."""


class Uploads:
    """A folder of unfinished uploads and of files that came in whole. Threads may share it.

    Args:
        folder: Where they are.
        spares: Files that are written over, and to which sealed ones go that are needed no more.
    """

    def __init__(self, folder: Path, *, spares: Spares) -> None:
        self._unfinished = durable.make_folder(folder / "uploads")
        self._received = durable.make_folder(folder / "received")
        self._spares = spares
        self._open: dict[tuple[str, str], Unfinished] = {}
        self._lock = threading.Lock()

    def received(self, site_id: str, digest: str) -> Path:
        """Return where a whole file of a site is, or would be."""
        _check_names(site_id, digest)
        return self._received / site_id / f"{digest}.safetensors"

    def chunks(self, site_id: str, upload_id: str) -> tuple[Shape, list[int]] | None:
        """Return the shape of an upload and which chunks are here; None if nothing is."""
        whole = self.received(site_id, upload_id)
        if whole.is_file():
            size = whole.stat().st_size
            return Shape(total_bytes=size, chunk_bytes=max(size, 1)), [0]
        upload = self._find(site_id, upload_id)
        return None if upload is None else (upload.shape, sorted(upload.digests))

    def put(
        self,
        site_id: str,
        upload_id: str,
        shape: Shape,
        index: int,
        pieces: Sequence[bytes],
        *,
        sha256: bytes,
        is_through: bool = False,
    ) -> None:
        """Write one chunk; the same bytes again change nothing.

        A chunk of a finer shape begins the upload anew: larger ones do not pass any more.

        Args:
            site_id: The sender.
            upload_id: The SHA-256 that it promises for the whole file.
            shape: Of the whole file.
            index: Which chunk.
            pieces: Its bytes.
            sha256: Of these bytes; the caller has computed it.
            is_through: It is that of the file through these bytes instead, as somebody says.

        Raises:
            NotNextError: It is, and this is not the chunk that comes next. Nothing was written.
            OtherDigestError: It is, and is another one. Nothing was written.
            UpdateError: The chunk does not fit into a file of this shape.
            StateConflictError: Other bytes, or a finer shape, are here already; they stay.
            StorageError: The disk refused.
        """
        if not MIN_CHUNK_BYTES <= shape.chunk_bytes <= MAX_CHUNK_BYTES or shape.total_bytes < 1:
            raise UpdateError("blob_size", f"An upload in chunks of {shape.chunk_bytes} bytes.")
        if sum(map(len, pieces)) != shape.size_of(index):
            raise UpdateError("blob_size", f"Chunk {index} is not of the size that it should be.")
        upload = self._find(site_id, upload_id)
        if upload is not None and shape.is_finer_than(upload.shape):
            with self._lock, durable.storage_errors(upload.path):
                self._forget(site_id, upload_id)
            upload = None
        if upload is None and is_through:
            if index:
                raise NotNextError
            through(hashlib.sha256(), pieces, sha256)
        upload = upload or self._begin(site_id, upload_id, shape)
        with upload.lock, durable.storage_errors(upload.path):
            if upload.shape == shape and is_through:
                upload.put_next(index, pieces, sha256)
                return
            if upload.shape != shape or upload.has_other(index, pieces, sha256):
                raise StateConflictError(
                    f"{site_id}: other bytes are here for chunk {index}. They stay; what came "
                    "second was not written. The site: ask which chunks are here, and go on."
                )
            if index not in upload.digests and not upload.is_gone:
                upload.put(index, pieces, sha256)

    def finish(self, site_id: str, upload_id: str) -> str | None:
        """Make a whole upload durable; return the SHA-256 that was found, None if chunks miss.

        The file is at `received` under the digest that was found, whatever was promised.
        """
        if self.received(site_id, upload_id).is_file():
            return upload_id
        upload = self._find(site_id, upload_id)
        if upload is None:
            return None
        with upload.lock:
            if upload.is_gone or upload.hashed < upload.shape.num_chunks:
                return None
            found = upload.sha256.hexdigest()
            target = self.received(site_id, found)
            with durable.storage_errors(target):
                durable.make_folder(target.parent)
                with upload.path.open("rb+") as file:
                    file.truncate(upload.shape.total_bytes)
                    os.fsync(file.fileno())
                durable.write_point("before rename")
                durable.move(upload.path, target)
            self._drop(site_id, upload_id, upload)
        return found

    def discard(self, site_id: str, digest: str) -> None:
        """Delete a whole file; one that is sealed becomes a spare that nobody can open."""
        path = self.received(site_id, digest)
        with durable.storage_errors(path):
            has_other_name = path.exists() and path.stat().st_nlink > 1
            if has_other_name or not make_unopenable(path):
                durable.delete(path)
            else:
                self._spares.keep(path)

    def keep_only(self, received: set[tuple[str, str]]) -> None:
        """Delete all whole files but these, given as site and digest."""
        for path in sorted(self._received.glob("*/*.safetensors")):
            if (path.parent.name, path.stem) not in received:
                durable.delete(path)

    def _find(self, site_id: str, upload_id: str) -> Unfinished | None:
        """Return an unfinished upload, also one that an earlier process began."""
        _check_names(site_id, upload_id)
        with self._lock:
            found = self._open.get((site_id, upload_id))
            path = self._unfinished / site_id / f"{upload_id}.part"
            notes = path.with_suffix(".chunks")
            if found is not None or not notes.is_file():
                return found
            head = notes.read_bytes()[:16]
            if len(head) < 16:
                return None
            total, chunk = (int.from_bytes(head[start : start + 8], "little") for start in (0, 8))
            found = Unfinished(path=path, shape=Shape(total_bytes=total, chunk_bytes=chunk))
            with durable.storage_errors(path):
                found.recover()
            self._open[site_id, upload_id] = found
            return found

    def _begin(self, site_id: str, upload_id: str, shape: Shape) -> Unfinished:
        """Begin an upload; the sender's oldest ones give way to it."""
        with self._lock:
            path = durable.make_folder(self._unfinished / site_id) / f"{upload_id}.part"
            upload = self._open.get((site_id, upload_id))
            if upload is not None:
                return upload
            with durable.storage_errors(path):
                notes = sorted(path.parent.glob("*.chunks"), key=lambda item: item.stat().st_mtime)
                for old in notes[: max(0, len(notes) - MAX_OPEN + 1)]:
                    self._forget(site_id, old.stem)
                path.unlink(missing_ok=True)
                start_notes(path.with_suffix(".chunks"), shape)
                self._spares.take(path)
            upload = Unfinished(path=path, shape=shape)
            self._open[site_id, upload_id] = upload
            return upload

    def _forget(self, site_id: str, upload_id: str) -> None:
        upload = self._open.pop((site_id, upload_id), None)
        if upload is not None:
            upload.is_gone = True
        path = self._unfinished / site_id / f"{upload_id}.part"
        path.with_suffix(".chunks").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _drop(self, site_id: str, upload_id: str, upload: Unfinished) -> None:
        """Take an upload off the list once its file is whole."""
        upload.is_gone = True
        with self._lock:
            self._open.pop((site_id, upload_id), None)
        upload.notes.unlink(missing_ok=True)


def _check_names(site_id: str, digest: str) -> None:
    """Names never become paths but these two forms."""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", site_id), site_id
    assert re.fullmatch(r"[0-9a-f]{64}", digest), digest
