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

MAX_CHUNK_BYTES = 2 << 20
"""What it goes on to on a fast line: most proxies and every backend's messages take as much."""

_NOTE_BYTES = 8 + 32
_THROUGH = 1 << 63
"""In the number of a noted chunk: the digest is that of the file through it."""


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

    def put(
        self,
        index: int,
        pieces: Sequence[bytes],
        digest: bytes,
        *,
        through: hashlib._Hash | None = None,
    ) -> None:
        """Write a chunk to its place, then note it; hash what is now whole from the start.

        Args:
            index: Which chunk.
            pieces: Its bytes.
            digest: Of these bytes, or of the file's through these.
            through: What has that digest in the second case: nothing is hashed again.
        """
        with self.path.open("r+b" if self.path.exists() else "x+b") as file:
            file.seek(index * self.shape.chunk_bytes)
            file.writelines(pieces)
        if through is not None:
            self.through.add(index)
        with self.notes.open("ab") as notes:
            notes.write(self._note(index, digest))
        self.digests[index] = digest
        if index == self.hashed:
            if through is None:
                _hash(self.sha256, pieces)
            else:
                self.sha256 = through
            self.hashed += 1
            self._catch_up()

    def recover(self) -> None:
        """Take the chunks that an earlier process noted and that are there as it noted them."""
        noted = self._noted()
        sha256, is_whole = hashlib.sha256(), True
        for index in sorted(noted):
            is_whole = is_whole and index == self.hashed
            data = self._read(index)
            digest, is_through = noted[index]
            if is_through and not is_whole:
                continue
            after = sha256.copy()
            after.update(data)
            found = after.digest() if is_through else hashlib.sha256(data).digest()
            if not self.shape.size_of(index) or found != digest:
                is_whole = False
                continue
            self.digests[index] = digest
            if is_through:
                self.through.add(index)
            if is_whole:
                sha256, self.hashed = after, index + 1
        self.sha256 = sha256
        start_notes(self.notes, self.shape, self._notes_of(sorted(self.digests)))

    def _noted(self) -> dict[int, tuple[bytes, bool]]:
        """Return what was noted of each chunk: a digest, and whether it is of the file through."""
        data, noted = self.notes.read_bytes(), {}
        for start in range(16, len(data) - _NOTE_BYTES + 1, _NOTE_BYTES):
            number = int.from_bytes(data[start : start + 8], "little")
            digest = data[start + 8 : start + _NOTE_BYTES]
            noted[number & ~_THROUGH] = (digest, bool(number & _THROUGH))
        return noted

    def _notes_of(self, indices: Iterable[int]) -> list[bytes]:
        return [self._note(index, self.digests[index]) for index in indices]

    def _note(self, index: int, digest: bytes) -> bytes:
        number = index | (_THROUGH if index in self.through else 0)
        return number.to_bytes(8, "little") + digest

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


def start_notes(path: Path, shape: Shape, notes: Sequence[bytes] = ()) -> None:
    """Begin the notes of an upload with its shape, and the chunks that are here.

    All or nothing, also in a power cut: a shape that was torn would fit no chunk any more.
    """
    head = shape.total_bytes.to_bytes(8, "little") + shape.chunk_bytes.to_bytes(8, "little")
    durable.write_atomically(path, lambda file: str(file.write(b"".join([head, *notes]))))


def _hash(sha256: hashlib._Hash, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sha256.update(piece)
