"""A site's side of the hub: signed requests that go on for as long as it takes.

Every method returns when the hub has answered, however often the network failed meanwhile, unless
the connection has a patience. What had arrived is not sent again. Only a refusal ends a call: then
trying again would not help.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hospitium.engines.hub import hearing
from hospitium.engines.hub.asking import Asker, StoppedError, error_of
from hospitium.engines.hub.connection import Connection, is_behind_proxy
from hospitium.engines.hub.downloading import Download
from hospitium.engines.hub.pace import Pace
from hospitium.engines.hub.polling import PollLength
from hospitium.engines.hub.records import read_in_large_pieces
from hospitium.engines.hub.requests import Question
from hospitium.engines.hub.uploading import Uploader
from hospitium.errors import HubError
from hospitium.state.unfinished import MAX_CHUNK_BYTES, PROXY_CHUNK_BYTES
from hospitium.wire.signing import SigningKey

__all__ = ["Connection", "HubClient", "StoppedError", "Waiting"]

MAX_LOSSES = 10
"""How often an upload is sent anew because the hub no longer has what it was sent."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A task as it waits at the hub: its number and the signed envelope."""

    n: int
    envelope: bytes


class HubClient:
    """Asks one hub in the name of one site; each thread needs a client of its own.

    Args:
        connection: How to reach the hub.
        key: The site's request key.
        stop: Ends every wait, with `StoppedError`.
        log: Told in words why a request is made again; for the site's own staff.
        pace: How fast the line may be used; None: as fast as it goes.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        key: SigningKey,
        stop: threading.Event | None = None,
        log: Callable[[str], None] = lambda text: None,
        pace: Pace | None = None,
    ) -> None:
        self._connection = connection
        self._asker = Asker(connection, key=key, stop=stop, log=log, pace=pace)
        self._uploader = Uploader(
            self._asker,
            chunk_bytes=connection.chunk_bytes,
            fast_bytes=PROXY_CHUNK_BYTES if is_behind_proxy(connection) else MAX_CHUNK_BYTES,
        )
        self._polls = PollLength(log, stop=stop)

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._asker.close()

    def interrupt(self) -> None:
        """End the wait of another thread in this client."""
        self._asker.interrupt()

    # --- tasks and answers ----------------------------------------------------------------------

    def tasks(self, *, after: int, wait_s: int) -> list[Waiting]:
        """Return this site's open tasks after a number; wait for one, at most so long.

        Where something in between cuts long polls, shorter ones are asked for.
        """

        def once() -> httpx.Response:
            wait = self._polls.of(wait_s)
            query = f"after={after}&wait={wait}"
            with self._polls.watched(wait):
                return self._asker.once(
                    Question(method="GET", path="/v1/tasks", query=query),
                    timeout_s=wait + self._connection.timeout_s,
                )

        response = self._asker.again(once)
        if response.status_code == 204:
            return []
        return [
            Waiting(n=row["n"], envelope=row["envelope"].encode())
            for row in hearing.table(response.content, hearing.TASKS)["tasks"]
        ]

    def send(self, statement: bytes) -> bytes:
        """Hand in a statement that has no file; return the receipt."""
        return self._post("/v1/envelopes", statement).content

    def fetch(
        self,
        sha256: str,
        target: Path,
        *,
        size_bytes: int,
        take: Callable[[Path], bool] = lambda path: False,
    ) -> None:
        """Download a blob, from where an earlier try ended; the file is whole or not there.

        Args:
            sha256: Of the blob.
            target: Where the file is to be.
            size_bytes: Of the blob.
            take: Puts a spare file where it is told, if there is one: it is written over.

        Raises:
            CorruptedError: It came with another digest. It was deleted.
            HubError: No task of this site names it.
        """
        download = Download(target.with_suffix(".part"))
        download.resume(take)
        if download.size < size_bytes:
            self._asker.again(lambda: self._fetch_rest(sha256, download, size_bytes))
        download.finish(sha256, target)

    def upload(self, path: Path, upload_id: str, statement: bytes) -> bytes:
        """Send a file in chunks and the statement about it; return the receipt.

        What the hub has already is not sent again, unless pieces of its size pass no more.
        """
        for _ in range(MAX_LOSSES):
            self._uploader.send(path, upload_id)
            try:
                return self._post(f"/v1/uploads/{upload_id}/complete", statement).content
            except HubError as error:
                if error.reason != "missing":
                    raise
                self._asker.log("the hub lost chunks of an upload; they are sent again")
        raise HubError(
            "missing",
            f"The hub lost chunks of one upload {MAX_LOSSES} times. The file is kept. The "
            "coordinator: look at the disk of the hub.",
        )

    # --- membership -----------------------------------------------------------------------------

    def enrol(self, request: bytes) -> str:
        """Bring an enrolment request, which its own keys sign; return the digest that came in."""
        question = Question(method="POST", path="/v1/enrolments")
        response = self._asker.ask(question, content=request, is_signed=False)
        return str(hearing.table(response.content, hearing.ENROLMENT)["request"])

    def members(self, *, after: int) -> list[bytes]:
        """Return the signed member lists of later epochs, in order."""
        return self._envelopes("/v1/members", "lists", query=f"after={after}")

    def plans(self) -> list[bytes]:
        """Return the signed plans that are offered."""
        return self._envelopes("/v1/plans", "plans")

    def say(self, statement: bytes) -> bytes:
        """Bring an approval, a refusal or a withdrawal; return the receipt."""
        return self._post("/v1/said", statement).content

    def beat(self, beat: bytes) -> dict[str, Any]:
        """Say how this site is; return the coordinator's time and what it thinks of the site."""
        return hearing.table(self._post("/v1/heartbeat", beat).content, hearing.BEAT)

    def standing(self) -> dict[str, Any]:
        """Return what the coordinator thinks of this site."""
        response = self._asker.ask(Question(method="GET", path="/v1/standing"))
        return hearing.table(response.content, hearing.STANDING)

    def echo(self, content: bytes) -> dict[str, Any]:
        """Send bytes; return how many the hub got, and their SHA-256: ``bytes``, ``sha256``."""
        return hearing.table(self._post("/v1/echo", content).content, hearing.ECHO)

    def echo_back(self, size_bytes: int) -> bytes:
        """Return so many bytes of the hub's."""
        return self._post("/v1/echo", b"", query=f"size={size_bytes}").content

    # --- inside ---------------------------------------------------------------------------------

    def _post(self, path: str, content: bytes, *, query: str = "") -> httpx.Response:
        return self._asker.ask(Question(method="POST", path=path, query=query), content=content)

    def _envelopes(self, path: str, name: str, *, query: str = "") -> list[bytes]:
        response = self._asker.ask(Question(method="GET", path=path, query=query))
        return hearing.envelopes(response.content, name)

    def _fetch_rest(self, sha256: str, download: Download, size_bytes: int) -> None:
        """Fetch what is missing of a blob; keeps what came if the connection breaks."""
        question = Question(method="GET", path=f"/v1/blobs/{sha256}")
        headers = {"range": f"bytes={download.size}-"} if download.size else {}
        with self._asker.stream(question, headers=headers) as response:
            if response.status_code == 200 and download.size:
                raise httpx.RemoteProtocolError("a range was asked for and the whole was sent")
            if response.status_code not in (200, 206):
                raise error_of(hearing.bounded(response, question.path))
            read_in_large_pieces(response)
            download.add(self._asker.blocks(response, None), most=size_bytes)
        if download.size < size_bytes:
            raise httpx.RemoteProtocolError("the blob ended early")
