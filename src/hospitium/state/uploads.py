"""Files that come in as chunks: each chunk is written once, to its place, and hashed as it comes.

An upload is named by the SHA-256 that its sender promises, and belongs to its sender alone. Its
chunks are noted beside it, so that it goes on after ``kill -9``: then every chunk is read again
once, and one that was torn counts as missing. A whole file is synced once and renamed, not copied.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hospitium.errors import StateConflictError, UpdateError
from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.wire.sealing import make_unopenable

MIN_CHUNK_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
"""With what a sender begins."""

MAX_CHUNK_BYTES = 2 << 20
"""What it goes on to on a fast line: most proxies and every backend's messages take as much."""

MAX_OPEN = 4
"""Unfinished uploads of one sender; a further one takes the place of the oldest."""

_NOTE_BYTES = 8 + 32


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large a file is, and how large its chunks are; the last one may be shorter."""

    total_bytes: int
    chunk_bytes: int

    @property
    def num_chunks(self) -> int:
        """How many chunks the file has; at least one."""
        return -(-self.total_bytes // self.chunk_bytes)

    def is_finer_than(self, other: Shape) -> bool:
        """Whether this is the same file in smaller chunks."""
        return self.total_bytes == other.total_bytes and self.chunk_bytes < other.chunk_bytes

    def size_of(self, index: int) -> int:
        """Return the size of one chunk in bytes; 0 for one that the file does not have."""
        if not 0 <= index < self.num_chunks:
            return 0
        return min(self.chunk_bytes, self.total_bytes - index * self.chunk_bytes)


@dataclass(kw_only=True)
class _Upload:
    """One unfinished upload; ``hashed`` chunks from the start on have gone into ``sha256``."""

    path: Path
    shape: Shape
    digests: dict[int, bytes] = field(default_factory=dict)
    hashed: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_gone: bool = False

    @property
    def notes(self) -> Path:
        return self.path.with_suffix(".chunks")

    def put(self, index: int, pieces: Sequence[bytes], digest: bytes) -> None:
        """Write a chunk to its place, then note it; hash what is now whole from the start."""
        with self.path.open("r+b" if self.path.exists() else "x+b") as file:
            file.seek(index * self.shape.chunk_bytes)
            file.writelines(pieces)
        with self.notes.open("ab") as notes:
            notes.write(index.to_bytes(8, "little") + digest)
        self.digests[index] = digest
        if index == self.hashed:
            for piece in pieces:
                self.sha256.update(piece)
            self.hashed += 1
            self._catch_up()

    def recover(self) -> None:
        """Take the chunks that an earlier process noted and that are there as it noted them."""
        data = self.notes.read_bytes()
        noted = {}
        for start in range(16, len(data) - _NOTE_BYTES + 1, _NOTE_BYTES):
            index = int.from_bytes(data[start : start + 8], "little")
            noted[index] = data[start + 8 : start + _NOTE_BYTES]
        for index, digest in noted.items():
            if self.shape.size_of(index) and hashlib.sha256(self._read(index)).digest() == digest:
                self.digests[index] = digest
        self._catch_up()
        start_notes(self.notes, self.shape, self.digests)

    def _catch_up(self) -> None:
        """Hash the chunks that came before the one that was missing."""
        while self.hashed in self.digests:
            self.sha256.update(self._read(self.hashed))
            self.hashed += 1

    def _read(self, index: int) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            file.seek(index * self.shape.chunk_bytes)
            return file.read(self.shape.size_of(index))


def start_notes(path: Path, shape: Shape, digests: Mapping[int, bytes]) -> None:
    """Begin the notes of an upload with its shape, and the chunks that are here.

    All or nothing, also in a power cut: a shape that was torn would fit no chunk any more.
    """
    head = shape.total_bytes.to_bytes(8, "little") + shape.chunk_bytes.to_bytes(8, "little")
    rows = [index.to_bytes(8, "little") + digest for index, digest in sorted(digests.items())]
    durable.write_atomically(path, lambda file: str(file.write(b"".join([head, *rows]))))


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
        self._open: dict[tuple[str, str], _Upload] = {}
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

        Raises:
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
        upload = upload or self._begin(site_id, upload_id, shape)
        with upload.lock, durable.storage_errors(upload.path):
            if upload.shape != shape or upload.digests.get(index, sha256) != sha256:
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

    def _find(self, site_id: str, upload_id: str) -> _Upload | None:
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
            found = _Upload(path=path, shape=Shape(total_bytes=total, chunk_bytes=chunk))
            with durable.storage_errors(path):
                found.recover()
            self._open[site_id, upload_id] = found
            return found

    def _begin(self, site_id: str, upload_id: str, shape: Shape) -> _Upload:
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
                start_notes(path.with_suffix(".chunks"), shape, {})
                self._spares.take(path)
            upload = _Upload(path=path, shape=shape)
            self._open[site_id, upload_id] = upload
            return upload

    def _forget(self, site_id: str, upload_id: str) -> None:
        upload = self._open.pop((site_id, upload_id), None)
        if upload is not None:
            upload.is_gone = True
        path = self._unfinished / site_id / f"{upload_id}.part"
        path.with_suffix(".chunks").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _drop(self, site_id: str, upload_id: str, upload: _Upload) -> None:
        """Take an upload off the list once its file is whole."""
        upload.is_gone = True
        with self._lock:
            self._open.pop((site_id, upload_id), None)
        upload.notes.unlink(missing_ok=True)


def _check_names(site_id: str, digest: str) -> None:
    """Names never become paths but these two forms."""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", site_id), site_id
    assert re.fullmatch(r"[0-9a-f]{64}", digest), digest
