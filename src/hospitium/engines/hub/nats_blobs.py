"""Files in a NATS cluster, in pieces: the params of open tasks, and a copy of them at each hub."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from hospitium.engines.hub.nats_streams import MODEL, Streams, TakenError, in_turn
from hospitium.errors import CorruptedError
from hospitium.state import durable

PIECE_BYTES = 1 << 20


class NatsBlobs:
    """Params by their SHA-256: stored once in the cluster, read from each hub's own disk."""

    def __init__(self, streams: Streams, folder: Path) -> None:
        self._streams = streams
        self._folder = durable.make_folder(folder / "blobs")
        self._fetching = asyncio.Lock()

    def path(self, digest: str) -> Path:
        """Return where this hub's copy is, or would be."""
        assert len(digest) == 64 and digest.isalnum(), digest
        return self._folder / f"{digest}.safetensors"

    def link(self, source: Path, digest: str) -> None:
        """Take the coordinator's own file as the copy; a folder on another file system copies."""
        target = self.path(digest)
        with durable.storage_errors(target):
            if target.exists():
                return
            try:
                os.link(source, target)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise
                shutil.copyfile(source, target.with_suffix(".part"))
                target.with_suffix(".part").replace(target)

    async def put(self, source: Path, digest: str) -> None:
        """Store a file in the cluster, unless all of it is there."""
        size = source.stat().st_size
        count = -(-size // PIECE_BYTES)
        there = set((await self._streams.listing(MODEL, "blob", digest, "*")).subjects)
        names = [self._streams.subject("blob", digest, str(index)) for index in range(count)]
        with source.open("rb") as file:

            async def put(index: int) -> None:
                file.seek(index * PIECE_BYTES)
                try:
                    await self._streams.put(MODEL, names[index], file.read(PIECE_BYTES))
                except TakenError:
                    return  # the name says the content

            await in_turn(put(index) for index in range(count) if names[index] not in there)

    async def fetch(self, digest: str, size: int) -> None:
        """Copy a file from the cluster to this hub's disk, unless it is there.

        Raises:
            CorruptedError: It is not there whole.
        """
        async with self._fetching:  # of many sites that ask at once, one has it copied
            await self._fetch(digest, size)

    async def _fetch(self, digest: str, size: int) -> None:
        target = self.path(digest)
        if target.exists():
            return
        count = -(-size // PIECE_BYTES)
        names = [self._streams.subject("blob", digest, str(index)) for index in range(count)]
        part = target.with_suffix(".part")
        if await write_pieces(self._streams, MODEL, names, part) != digest:
            part.unlink(missing_ok=True)
            raise CorruptedError(
                f"{digest[:12]}…: the blob was withdrawn while it was read, or the hub's storage "
                "cluster lost it; then the coordinator puts it anew. The site asks again."
            )
        part.replace(target)

    async def keep_only(self, digests: set[str]) -> None:
        """Delete all others, in the cluster and here."""
        listing = await self._streams.listing(MODEL, "blob", "*", "*")
        stored = {self._streams.words(subject)[1] for subject in listing.subjects}
        for digest in sorted(stored - digests):
            await self._streams.purge(MODEL, "blob", digest, "*")
        self.forget_copies(but=digests)

    def forget_copies(self, *, but: set[str]) -> None:
        """Delete this hub's copies of all others."""
        for path in sorted(self._folder.glob("*.safetensors")):
            if path.stem not in but:
                durable.delete(path)


async def write_pieces(
    streams: Streams, kind: str, subjects: Sequence[str], path: Path
) -> str | None:
    """Write the pieces of a file to disk; return their SHA-256, None if one is missing."""
    sha256 = hashlib.sha256()
    with durable.storage_errors(path), path.open("wb", buffering=0) as file:
        async with aclosing(streams.pieces(kind, subjects)) as pieces:
            async for piece in pieces:
                if piece is None:
                    return None
                file.write(piece.data)
                sha256.update(piece.data)
    return sha256.hexdigest()
