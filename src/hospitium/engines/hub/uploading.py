"""Sending a file in pieces that pass: where a proxy lets no large body through, in smaller ones."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from hospitium.engines.hub.asking import Asker
from hospitium.engines.hub.hearing import chunks
from hospitium.engines.hub.requests import Question
from hospitium.errors import HubError
from hospitium.state.uploads import CHUNK_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES

MAX_BREAKS = 3
"""How often a piece may fail on a line on which small requests pass, before it is halved."""

FAST_PIECE_S = 0.25
"""A line on which pieces take no longer is fast: the next file goes in the largest ones."""


class Uploader:
    """Sends files over one connection, and remembers which size of pieces passes there.

    A size is taken for too large when something in between answers 413, or when pieces of it break
    the connection again and again while no one has passed yet and small requests do. Then they are
    halved, down to 64 KiB, and the upload is begun anew in that size. On a fast line a later file
    goes in larger pieces, since each costs both sides a request.

    Args:
        asker: Makes the requests.
        chunk_bytes: Size of the pieces to begin with.
    """

    def __init__(self, asker: Asker, *, chunk_bytes: int) -> None:
        self._asker = asker
        self._first_bytes = chunk_bytes
        self._most_bytes: float = math.inf
        self._passed_bytes = MIN_CHUNK_BYTES

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
        begun, num_sent = time.monotonic(), 0
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            for index in range(-(-total // chunk_bytes)):
                if index in here:
                    continue
                file.seek(index * chunk_bytes)
                question = Question(
                    method="PUT",
                    path=f"/v1/uploads/{upload_id}/chunks/{index}",
                    query=f"total={total}&size={chunk_bytes}",
                )
                content = file.read(chunk_bytes)
                if not self._passes(question, content, upload_id):
                    return False
                self._passed_bytes = max(self._passed_bytes, len(content))
                num_sent += len(content) >= CHUNK_BYTES
        if time.monotonic() - begun < FAST_PIECE_S * num_sent:
            self._first_bytes = MAX_CHUNK_BYTES
        return True

    def _passes(self, question: Question, content: bytes, upload_id: str) -> bool:
        """Send one piece; False where something on the way seems to stop one of its size."""
        is_known = len(content) <= self._passed_bytes
        for _ in range(MAX_BREAKS):
            try:
                self._asker.ask(question, content=content, tries=math.inf if is_known else 1)
            except HubError as error:
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
