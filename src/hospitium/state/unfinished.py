"""A file that comes in as chunks: each is written once, to its place, and hashed as it comes.

Its chunks are noted beside it, so that it goes on after ``kill -9``: then every chunk is read again
once, and one that was torn counts as missing. What is noted of a chunk is its own SHA-256, or that
of the whole file through it, which costs nothing where chunks come in order.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hospitium.state import durable

MIN_CHUNK_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
"""With what a sender begins."""

PROXY_CHUNK_BYTES = 2 << 20
"""What it goes on to on a fast line through a proxy: most let as much through."""

MAX_CHUNK_BYTES = 4 << 20
"""What it goes on to on a fast line without one: each piece costs both sides a request. All
backends take it in one message."""

_NOTE_BYTES = 8 + 32
_THROUGH = 1 << 63
"""In the number of a noted chunk: the digest is that of the file through it."""


class NotNextError(Exception):
    """A chunk that is given by the digest of the file through it is not the one that comes next."""


class OtherDigestError(Exception):
    """The file through a chunk has another digest than the one that was given."""


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
class Unfinished:
    """One unfinished upload; ``hashed`` chunks from the start on have gone into ``sha256``.

    ``digests`` are those of the chunks that are here; of chunks in ``through``, they are of the
    file through the chunk.
    """

    path: Path
    shape: Shape
    digests: dict[int, bytes] = field(default_factory=dict)
    through: set[int] = field(default_factory=set)
    hashed: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_gone: bool = False

    @property
    def notes(self) -> Path:
        """Where the chunks are noted."""
        return self.path.with_suffix(".chunks")

    def has_other(self, index: int, pieces: Sequence[bytes], digest: bytes) -> bool:
        """Whether other bytes are here for a chunk; where its digest is another, it is read."""
        here = self.digests.get(index)
        return here not in (None, digest) and self._read(index) != b"".join(pieces)

    def put(self, index: int, pieces: Sequence[bytes], digest: bytes) -> None:
        """Write a chunk to its place, then note it; hash what is now whole from the start.

        Args:
            index: Which chunk.
            pieces: Its bytes.
            digest: Their SHA-256; the caller has computed it.
        """
        self._write(index, pieces, digest, is_through=False)
        if index == self.hashed:
            _hash(self.sha256, pieces)
            self.hashed += 1
            self._catch_up()

    def put_next(self, index: int, pieces: Sequence[bytes], digest: bytes) -> None:
        """Write the chunk that comes next, if the file's bytes through it have this SHA-256.

        Raises:
            NotNextError: Another one comes next, or this one is here. Nothing was written.
            OtherDigestError: They have another SHA-256. Nothing was written.
        """
        if self.is_gone or index != self.hashed or index in self.digests:
            raise NotNextError
        after = through(self.sha256, pieces, digest)
        self._write(index, pieces, digest, is_through=True)
        self.sha256 = after
        self.hashed += 1
        self._catch_up()

    def recover(self) -> None:
        """Take the chunks that an earlier process noted and that are there as it noted them."""
        noted = self._noted()
        for index in sorted(noted):
            is_next = index == self.hashed
            data = self._read(index)
            after = self.sha256.copy()
            after.update(data)
            own = hashlib.sha256(data).digest()
            for digest, is_through in noted[index]:
                if digest == (after.digest() if is_through and is_next else own):
                    self.digests[index] = digest
                    self.through |= {index} if is_through else set()
                    break
            if is_next and index in self.digests:
                self.sha256, self.hashed = after, index + 1
        notes = [
            _note(index, self.digests[index], is_through=index in self.through)
            for index in sorted(self.digests)
        ]
        start_notes(self.notes, self.shape, notes)

    def _write(
        self, index: int, pieces: Sequence[bytes], digest: bytes, *, is_through: bool
    ) -> None:
        with self.path.open("r+b" if self.path.exists() else "x+b") as file:
            file.seek(index * self.shape.chunk_bytes)
            file.writelines(pieces)
        with self.notes.open("ab") as notes:
            notes.write(_note(index, digest, is_through=is_through))
        self.digests[index] = digest
        self.through |= {index} if is_through else set()

    def _noted(self) -> dict[int, list[tuple[bytes, bool]]]:
        """Return what was noted of each chunk: digests, and whether they are of the file through.

        A note may be torn: a chunk is here if it is as any one of its notes says.
        """
        data = self.notes.read_bytes()
        noted: dict[int, list[tuple[bytes, bool]]] = {}
        for start in range(16, len(data) - _NOTE_BYTES + 1, _NOTE_BYTES):
            number = int.from_bytes(data[start : start + 8], "little")
            digest = data[start + 8 : start + _NOTE_BYTES]
            if self.shape.size_of(index := number & ~_THROUGH):
                noted.setdefault(index, []).append((digest, bool(number & _THROUGH)))
        return noted

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


def through(before: hashlib._Hash, pieces: Iterable[bytes], digest: bytes) -> hashlib._Hash:
    """Return the SHA-256 of what came before and these pieces.

    Raises:
        OtherDigestError: It is not this one.
    """
    after = before.copy()
    _hash(after, pieces)
    if after.digest() != digest:
        raise OtherDigestError
    return after


def start_notes(path: Path, shape: Shape, notes: Sequence[bytes] = ()) -> None:
    """Begin the notes of an upload with its shape, and the chunks that are here.

    All or nothing, also in a power cut: a shape that was torn would fit no chunk any more.
    """
    head = shape.total_bytes.to_bytes(8, "little") + shape.chunk_bytes.to_bytes(8, "little")
    durable.write_atomically(path, lambda file: str(file.write(b"".join([head, *notes]))))


def _note(index: int, digest: bytes, *, is_through: bool) -> bytes:
    return (index | (_THROUGH if is_through else 0)).to_bytes(8, "little") + digest


def _hash(sha256: hashlib._Hash, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sha256.update(piece)
