"""Files that sites hand in, as chunks in a NATS cluster: any hub takes any chunk.

``shape.SITE.UPLOAD`` says that an upload was begun, how large it is, and under which random word
its chunks are: ``up.SITE.WORD.INDEX``. ``done.SITE.DIGEST`` says that all of them are there and
what they hash to; it takes the place of the shape. A chunk's place is taken once. What is under a
word that neither names was given up.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from hospitium.engines.hub.nats_blobs import write_pieces
from hospitium.engines.hub.nats_streams import SEATS, UP, Message, Streams, TakenError
from hospitium.errors import StateConflictError, UpdateError
from hospitium.state import durable
from hospitium.state.unfinished import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, Shape
from hospitium.state.uploads import MAX_OPEN
from hospitium.wire.canonical import canonical_json

MAX_HASHING = 256


@dataclass(frozen=True, kw_only=True)
class _Upload:
    """Where an upload's chunks are."""

    word: str
    shape: Shape
    n: int = 0

    def data(self) -> bytes:
        return canonical_json(
            {
                "chunk_bytes": self.shape.chunk_bytes,
                "total_bytes": self.shape.total_bytes,
                "word": self.word,
            }
        )

    @classmethod
    def of(cls, message: Message) -> _Upload:
        fields = json.loads(message.data)
        shape = Shape(total_bytes=fields["total_bytes"], chunk_bytes=fields["chunk_bytes"])
        return cls(word=fields["word"], shape=shape, n=message.n)


@dataclass(kw_only=True)
class _Hashing:
    """The SHA-256 of an upload's first chunks."""

    count: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)


class NatsUploads:
    """The uploads of all sites; all methods but `path` are coroutines of the link's loop."""

    def __init__(self, streams: Streams, folder: Path) -> None:
        self._streams = streams
        self._received = durable.make_folder(folder / "received")
        self._hashing: dict[str, _Hashing] = {}

    def path(self, site_id: str, digest: str) -> Path:
        """Return where a whole file of a site is once it was fetched."""
        assert len(digest) == 64 and digest.isalnum(), digest
        assert site_id[:1].isalnum() and "/" not in site_id and "\\" not in site_id, site_id
        return self._received / site_id / f"{digest}.safetensors"

    async def chunks(self, site_id: str, upload_id: str) -> tuple[Shape, list[int]] | None:
        """Return the shape of an upload and which chunks are there; None if nothing is."""
        if (whole := await self._find("done", site_id, upload_id)) is not None:
            size = whole.shape.total_bytes
            return Shape(total_bytes=size, chunk_bytes=max(size, 1)), [0]
        upload = await self._find("shape", site_id, upload_id)
        return None if upload is None else (upload.shape, await self._there(site_id, upload))

    async def put(
        self,
        site_id: str,
        upload_id: str,
        shape: Shape,
        index: int,
        pieces: Sequence[bytes],
        *,
        sha256: bytes,
    ) -> None:
        """Store one chunk; see `hospitium.state.uploads.Uploads.put`, which this does alike."""
        if not MIN_CHUNK_BYTES <= shape.chunk_bytes <= MAX_CHUNK_BYTES or shape.total_bytes < 1:
            raise UpdateError("blob_size", f"An upload in chunks of {shape.chunk_bytes} bytes.")
        if sum(map(len, pieces)) != shape.size_of(index):
            raise UpdateError("blob_size", f"Chunk {index} is not of the size that it should be.")
        upload = await self._find("shape", site_id, upload_id)
        if upload is not None and shape.is_finer_than(upload.shape):
            await self._streams.purge(SEATS, "shape", site_id, upload_id, before=upload.n + 1)
            await self._streams.purge(UP, "up", site_id, upload.word, "*")
            upload = None
        if upload is None:
            upload = await self._begin(site_id, upload_id, shape)
        data = b"".join(pieces)
        if upload.shape != shape or not await self._store(site_id, upload, index, data, sha256):
            raise StateConflictError(
                f"{site_id}: other bytes are here for chunk {index}. They stay; what came "
                "second was not written. The site: ask which chunks are here, and go on."
            )
        self._hash(upload, index, data)

    async def finish(self, site_id: str, upload_id: str) -> str | None:
        """Return the SHA-256 of a whole upload, None if chunks are missing."""
        if await self._find("done", site_id, upload_id) is not None:
            return upload_id
        upload = await self._find("shape", site_id, upload_id)
        if upload is None or (found := await self._digest(site_id, upload)) is None:
            return None
        place = self._streams.subject("done", site_id, found)
        try:
            await self._streams.put(SEATS, place, upload.data(), after=0)
        except TakenError:
            stored = await self._find("done", site_id, found)
            if stored is not None and stored.word != upload.word:
                await self._streams.purge(UP, "up", site_id, upload.word, "*")
        await self._streams.purge(SEATS, "shape", site_id, upload_id, before=upload.n + 1)
        self._hashing.pop(upload.word, None)
        return found

    async def fetch(self, site_id: str, digest: str) -> None:
        """Write a whole file durably to its `path`; nothing is there if it is not whole."""
        path = self.path(site_id, digest)
        upload = await self._find("done", site_id, digest)
        if upload is None or path.is_file():
            return
        part = durable.make_folder(path.parent) / f"{digest}.part"
        names = self._names(site_id, upload)
        if await write_pieces(self._streams, UP, names, part) != digest:
            part.unlink(missing_ok=True)
            return
        with durable.storage_errors(path):
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            durable.move(part, path)

    async def forget(self, site_id: str, digest: str) -> None:
        """Delete a whole file in the cluster."""
        upload = await self._find("done", site_id, digest)
        if upload is not None:
            await self._streams.purge(SEATS, "done", site_id, digest)
            await self._streams.purge(UP, "up", site_id, upload.word, "*")

    async def sweep(self, *, answered: Collection[tuple[str, str]]) -> None:
        """Delete what was given up, and of each site all but its newest unanswered files.

        Args:
            answered: Site and SHA-256 of the files that answers name.
        """
        chunks = (await self._streams.listing(UP, "up", "*", "*", "*")).subjects
        # In this order: an upload that is finished meanwhile is found as one or the other.
        begun = await self._all("shape")
        done = await self._all("done")
        named = {(site_id, upload.word) for site_id, _, upload in begun + done}
        there = {tuple(self._streams.words(subject)[1:3]) for subject in chunks}
        for site_id, word in sorted(there - named):
            await self._streams.purge(UP, "up", site_id, word, "*")
        unanswered: dict[str, list[tuple[int, str]]] = {}
        for site_id, digest, upload in done:
            if (site_id, digest) not in answered:
                unanswered.setdefault(site_id, []).append((upload.n, digest))
        for site_id, files in unanswered.items():
            for _, digest in sorted(files)[:-MAX_OPEN]:
                await self.forget(site_id, digest)

    # --- inside ---------------------------------------------------------------------------------

    async def _find(self, kind: str, site_id: str, name: str) -> _Upload | None:
        found = await self._streams.get(SEATS, self._streams.subject(kind, site_id, name))
        return None if found is None else _Upload.of(found)

    async def _all(self, kind: str) -> list[tuple[str, str, _Upload]]:
        """Return site, name and place of all that was begun, or all that is done."""
        listing = await self._streams.listing(SEATS, kind, "*", "*")
        found = []
        for message in await self._streams.all(SEATS, listing.subjects):
            _, site_id, name = self._streams.words(message.subject)
            found.append((site_id, name, _Upload.of(message)))
        return found

    async def _begin(self, site_id: str, upload_id: str, shape: Shape) -> _Upload:
        """Begin an upload; the site's oldest ones give way to it."""
        listing = await self._streams.listing(SEATS, "shape", site_id, "*")
        begun = await self._streams.all(SEATS, listing.subjects)
        for old in begun[: max(0, len(begun) - MAX_OPEN + 1)]:
            await self._streams.purge(SEATS, *self._streams.words(old.subject))
            await self._streams.purge(UP, "up", site_id, _Upload.of(old).word, "*")
        upload = _Upload(word=secrets.token_hex(8), shape=shape)
        try:
            place = self._streams.subject("shape", site_id, upload_id)
            await self._streams.put(SEATS, place, upload.data(), after=0)
        except TakenError:
            return await self._find("shape", site_id, upload_id) or upload
        return upload

    def _names(self, site_id: str, upload: _Upload) -> list[str]:
        return [
            self._streams.subject("up", site_id, upload.word, str(index))
            for index in range(upload.shape.num_chunks)
        ]

    async def _there(self, site_id: str, upload: _Upload) -> list[int]:
        listing = await self._streams.listing(UP, "up", site_id, upload.word, "*")
        return sorted(int(self._streams.words(subject)[-1]) for subject in listing.subjects)

    async def _store(
        self, site_id: str, upload: _Upload, index: int, data: bytes, sha256: bytes
    ) -> bool:
        """Store a chunk; False if other bytes are there."""
        place = self._streams.subject("up", site_id, upload.word, str(index))
        try:
            await self._streams.put(UP, place, data, headers={"Sha256": sha256.hex()})
        except TakenError:
            stored = await self._streams.get(UP, place, is_content=True)
            return stored is None or stored.headers.get("Sha256") == sha256.hex()
        return True

    def _hash(self, upload: _Upload, index: int, data: bytes) -> None:
        """Hash a chunk if it is the next one, so that it need not be read again."""
        hashing = self._hashing.setdefault(upload.word, _Hashing())
        if index == hashing.count:
            hashing.sha256.update(data)
            hashing.count += 1
        while len(self._hashing) > MAX_HASHING:
            del self._hashing[next(iter(self._hashing))]

    async def _digest(self, site_id: str, upload: _Upload) -> str | None:
        """Return the SHA-256 of all chunks, None if one is missing."""
        if len(await self._there(site_id, upload)) < upload.shape.num_chunks:
            return None
        hashing = self._hashing.get(upload.word, _Hashing())
        sha256 = hashing.sha256.copy()
        names = self._names(site_id, upload)[hashing.count :]
        async with aclosing(self._streams.pieces(UP, names)) as pieces:
            async for piece in pieces:
                if piece is None:
                    return None
                sha256.update(piece.data)
        return sha256.hexdigest()
