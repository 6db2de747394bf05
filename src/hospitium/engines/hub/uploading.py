"""Sending a file in pieces that pass: where a proxy lets no large body through, in smaller ones."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict, deque
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from hospitium.engines.hub.asking import Asker
from hospitium.engines.hub.hearing import chunks
from hospitium.engines.hub.requests import Question
from hospitium.errors import HubError
from hospitium.state.unfinished import CHUNK_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES

MAX_BREAKS = 3
"""How often a piece may fail on a line on which small requests pass, before it is halved."""

FAST_PIECE_S = 0.25
"""A line on which pieces take no longer is fast: the next file goes in the largest ones."""


MAX_KNOWN = 4
"""Files of which it is remembered what their digest was on the way."""

_known: OrderedDict[str, Mapping[int, str]] = OrderedDict()


def remember(upload_id: str, through: Mapping[int, str]) -> None:
    """Remember the digests of a file's beginnings, by size: sending it needs no hash then.

    Args:
        upload_id: The file's SHA-256.
        through: As `RunningDigest.through` gives them.
    """
    _known[upload_id] = through
    while len(_known) > MAX_KNOWN:
        _known.popitem(last=False)


class Uploader:
    """Sends files over one connection, and remembers which size of pieces passes there.

    A size is taken for too large when something in between answers 413, or when pieces of it break
    the connection again and again while no one has passed yet and small requests do. Then they are
    halved, down to 64 KiB, and the upload is begun anew in that size. On a fast line a later file
    goes in larger pieces, since each costs both sides a request.

    What a request signs of a piece is the digest of the file through it, which both sides need
    anyway; where the hub does not have all before it in order, that of the piece alone.

    Args:
        asker: Makes the requests.
        chunk_bytes: Size of the pieces to begin with.
        fast_bytes: Size of the pieces on a fast line.
    """

    def __init__(
        self, asker: Asker, *, chunk_bytes: int, fast_bytes: int = MAX_CHUNK_BYTES
    ) -> None:
        self._asker = asker
        self._first_bytes = chunk_bytes
        self._fast_bytes = fast_bytes
        self._most_bytes: float = math.inf
        self._passed_bytes = MIN_CHUNK_BYTES
        self._is_through = True

    def send(self, path: Path, upload_id: str) -> None:
        """Send what the hub does not have of a file; return when it has everything.

        Raises:
            HubError: The hub refused, or pieces of 64 KiB are refused on the way (status 413).
        """
        size_bytes = path.stat().st_size
        while True:
            chunk_bytes, here = self.here(upload_id)
            if len(here) * chunk_bytes >= size_bytes:
                return
            if chunk_bytes > self._most_bytes:
                chunk_bytes, here = int(self._most_bytes), set()
            if self.send_missing(path, upload_id, chunk_bytes=chunk_bytes, here=here):
                return
            self._most_bytes = max(MIN_CHUNK_BYTES, chunk_bytes // 2)
            self._asker.log(
                f"pieces of {chunk_bytes >> 10} KiB do not pass: a proxy on the way refuses or "
                f"cuts large bodies; from now on they have {int(self._most_bytes) >> 10} KiB"
            )

    def here(self, upload_id: str) -> tuple[int, set[int]]:
        """Return the size of the chunks of an upload, and which of them the hub has."""
        try:
            response = self._asker.ask(Question(method="GET", path=f"/v1/uploads/{upload_id}"))
        except HubError as error:
            if error.status != 404:
                raise
            return int(min(self._first_bytes, self._most_bytes)), set()
        return chunks(response.content)

    def send_missing(self, path: Path, upload_id: str, *, chunk_bytes: int, here: set[int]) -> bool:
        """Send the chunks that are not here; False as soon as one seems too large to pass."""
        sent, known, is_through = set(here), _known.get(upload_id), self._is_through
        while True:
            pieces = Pieces(
                path, chunk_bytes=chunk_bytes, here=sent, is_through=is_through, known=known
            )
            try:
                return self._send(pieces, upload_id, sent)
            except HubError as error:
                if error.reason == "signature" and known is not None:
                    known = None  # the file is not what it was when it was written
                elif error.reason == "order" and is_through:
                    is_through = False
                    self._is_through = bool(sent)  # never again at a hub that takes none
                else:
                    raise

    def _send(self, pieces: Pieces, upload_id: str, sent: set[int]) -> bool:
        """Send pieces, and note which; see `send_missing`."""
        begun, num_large = time.monotonic(), 0
        through = "&through=1" if pieces.is_through else ""
        with closing(pieces.missing()) as missing:
            for index, content, sha256 in missing:
                question = Question(
                    method="PUT",
                    path=f"/v1/uploads/{upload_id}/chunks/{index}",
                    query=f"total={pieces.total_bytes}&size={pieces.chunk_bytes}{through}",
                )
                if not self._passes(question, content, upload_id, sha256=sha256):
                    return False
                self._passed_bytes = max(self._passed_bytes, len(content))
                sent.add(index)
                num_large += len(content) >= CHUNK_BYTES
        if time.monotonic() - begun < FAST_PIECE_S * num_large:
            self._first_bytes = self._fast_bytes
        return True

    def _passes(self, question: Question, content: bytes, upload_id: str, *, sha256: str) -> bool:
        """Send one piece; False where something on the way seems to stop one of its size."""
        is_known = len(content) <= self._passed_bytes
        for _ in range(MAX_BREAKS):
            try:
                tries = math.inf if is_known else 1
                self._asker.ask(question, content=content, content_sha256=sha256, tries=tries)
            except HubError as error:
                if error.reason == "order":
                    raise
                if len(content) > CHUNK_BYTES and not is_known:
                    return False  # larger pieces are a convenience: whatever refuses them may
                if error.reason != "unreachable" or len(content) <= MIN_CHUNK_BYTES:
                    raise
                if error.status == 413:
                    return False
                if is_known:
                    raise
                self.here(upload_id)  # waits until small requests pass
            else:
                return True
        return False


class Pieces:
    """The pieces of a file that are missing, each read and hashed while another is under way.

    Args:
        path: The file.
        chunk_bytes: Size of the pieces; the last one may be shorter.
        here: Numbers of those that are not missing.
        is_through: Whether a digest is that of the file through a piece, or of the piece alone.
        known: Digests of the file's beginnings, by size; where one is not among them, all are made.
    """

    def __init__(
        self,
        path: Path,
        *,
        chunk_bytes: int,
        here: set[int],
        is_through: bool,
        known: Mapping[int, str] | None = None,
    ) -> None:
        self.is_through = is_through
        self.total_bytes = path.stat().st_size
        ends = {*range(chunk_bytes, self.total_bytes, chunk_bytes), self.total_bytes}
        self._known = known if known and is_through and ends <= known.keys() else {}
        self._path = path
        self.chunk_bytes = chunk_bytes
        self._here = frozenset(here)
        self._sha256 = hashlib.sha256()

    def missing(self) -> Generator[tuple[int, bytes, str], None, None]:
        """Yield number, bytes and digest of each piece, in order."""
        numbers = range(-(-self.total_bytes // self.chunk_bytes))
        missing = [index for index in numbers if index not in self._here]
        must_hash_all = self.is_through and missing and not self._known
        wanted = numbers[: missing[-1] + 1] if must_hash_all else missing
        with self._path.open("rb") as file:
            if len(wanted) < 2:
                yield from (self._read(file, index) for index in wanted)
                return
            with ThreadPoolExecutor(1, thread_name_prefix="read") as other:
                coming = deque(other.submit(self._read, file, index) for index in wanted[:1])
                for following in (*wanted[1:], None):
                    found = coming.popleft().result()
                    if following is not None:
                        coming.append(other.submit(self._read, file, following))
                    if found[0] not in self._here:
                        yield found

    def _read(self, file: BinaryIO, index: int) -> tuple[int, bytes, str]:
        file.seek(index * self.chunk_bytes)
        content = file.read(self.chunk_bytes)
        if self._known:
            return index, content, self._known[file.tell()]
        if not self.is_through:
            return index, content, hashlib.sha256(content).hexdigest()
        self._sha256.update(content)
        return index, content, self._sha256.copy().hexdigest()
