"""A site's side of the hub: signed requests that go on for as long as it takes.

Every method returns when the hub has answered, however often the network failed meanwhile. What had
arrived is not sent again. Only a refusal ends a call: then trying again would not help.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from hospitium.engines.hub.requests import HEADER, Question, Signer
from hospitium.errors import CorruptedError, HubError
from hospitium.state.uploads import MAX_CHUNK_BYTES
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

CHALLENGE_S = 240.0
"""A challenge is changed before the hub would refuse it."""

MAX_LOSSES = 10
"""How often an upload is sent anew because the hub no longer has what it was sent."""

_NOTHING = digest(b"")
_Found = TypeVar("_Found")


class StoppedError(Exception):
    """The site is being stopped; whatever was under way is kept on disk."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a site reaches the hub.

    Attributes:
        url: ``https://host[:port]``.
        ca_file: Certificates that are trusted instead of the system's; None for the system's.
        proxy: ``http://[user:password@]host:port``; None takes ``HTTPS_PROXY``, if it is set.
        chunk_bytes: Size of the pieces of an upload; smaller ones suit slow lines.
        timeout_s: Silence after which a request is given up and made again.
        longest_pause_s: Between two tries.
    """

    url: str
    ca_file: Path | None = None
    proxy: str | None = None
    chunk_bytes: int = MAX_CHUNK_BYTES
    timeout_s: float = 30.0
    longest_pause_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A task as it waits at the hub: its number and the signed envelope."""

    n: int
    envelope: bytes


@dataclass(kw_only=True)
class _Download:
    """A file on its way in, hashed as it comes."""

    path: Path
    size: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def resume(self) -> None:
        """Take what an earlier process had fetched."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        with self.path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256")
            self.size = file.tell()

    def add(self, blocks: Any) -> None:
        """Append what arrives."""
        with self.path.open("ab", buffering=0) as file:
            for block in blocks:
                file.write(block)
                self.sha256.update(block)
                self.size += len(block)


class HubClient:
    """Asks one hub in the name of one site; each thread needs a client of its own.

    Args:
        connection: How to reach the hub.
        key: The site's request key.
        stop: Ends every wait, with `StoppedError`.
        log: Told in words why a request is made again; for the site's own staff.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        key: SigningKey,
        stop: threading.Event | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._connection = connection
        self._key = key
        self._stop = stop or threading.Event()
        self._log = log
        self._signer: Signer | None = None
        self._signer_until = 0.0
        self._http = httpx.Client(
            base_url=connection.url,
            verify=ssl.create_default_context(
                cafile=None if connection.ca_file is None else str(connection.ca_file)
            ),
            proxy=connection.proxy,
            timeout=connection.timeout_s,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._http.close()

    def tasks(self, *, after: int, wait_s: int) -> list[Waiting]:
        """Return this site's open tasks after a number; wait for one, at most so long."""
        response = self._ask(
            Question(method="GET", path="/v1/tasks", query=f"after={after}&wait={wait_s}"),
            timeout_s=wait_s + self._connection.timeout_s,
        )
        if response.status_code == 204:
            return []
        return _read(
            lambda: [
                Waiting(n=int(row["n"]), envelope=str(row["envelope"]).encode())
                for row in response.json()["tasks"]
            ]
        )

    def send(self, statement: bytes) -> bytes:
        """Hand in a statement that has no file; return the receipt."""
        return self._ask(Question(method="POST", path="/v1/envelopes"), content=statement).content

    def fetch(self, sha256: str, target: Path, *, size_bytes: int) -> None:
        """Download a blob, from where an earlier try ended; the file is whole or not there.

        Raises:
            CorruptedError: It came with another digest. It was deleted.
            HubError: No task of this site names it.
        """
        download = _Download(path=target.with_suffix(".part"))
        download.resume()
        if download.size < size_bytes:
            self._again(lambda: self._fetch_rest(sha256, download, size_bytes))
        if download.sha256.hexdigest() != sha256:
            download.path.unlink()
            raise CorruptedError(
                f"{sha256[:12]}…: the hub sent other bytes than those of the task. They were "
                "deleted. The site asks again; if it lasts, tell the coordinator."
            )
        download.path.replace(target)

    def upload(self, path: Path, upload_id: str, statement: bytes) -> bytes:
        """Send a file in chunks and the statement about it; return the receipt.

        What the hub has already is not sent again.
        """
        for _ in range(MAX_LOSSES):
            chunk_bytes, here = self._here(upload_id)
            self._send_chunks(path, upload_id, chunk_bytes=chunk_bytes, here=here)
            try:
                return self._ask(
                    Question(method="POST", path=f"/v1/uploads/{upload_id}/complete"),
                    content=statement,
                ).content
            except HubError as error:
                if error.reason != "missing":
                    raise
                self._log("the hub lost chunks of an upload; they are sent again")
        raise HubError(
            "missing",
            f"The hub lost chunks of one upload {MAX_LOSSES} times. The file is kept. The "
            "coordinator: look at the disk of the hub.",
        )

    # --- inside ---------------------------------------------------------------------------------

    def _here(self, upload_id: str) -> tuple[int, set[int]]:
        """Return the size of the chunks of an upload, and which of them the hub has."""
        try:
            response = self._ask(Question(method="GET", path=f"/v1/uploads/{upload_id}"))
        except HubError as error:
            if error.status != 404:
                raise
            return self._connection.chunk_bytes, set()
        return _read(
            lambda: (
                int(response.json()["chunk_bytes"]),
                {
                    index
                    for first, last in response.json()["chunks"]
                    for index in range(first, last + 1)
                },
            )
        )

    def _send_chunks(self, path: Path, upload_id: str, *, chunk_bytes: int, here: set[int]) -> None:
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
                self._ask(question, content=file.read(chunk_bytes))

    def _fetch_rest(self, sha256: str, download: _Download, size_bytes: int) -> None:
        """Fetch what is missing of a blob; keeps what came if the connection breaks."""
        question = Question(method="GET", path=f"/v1/blobs/{sha256}")
        headers = self._headers(question, _NOTHING)
        if download.size:
            headers["range"] = f"bytes={download.size}-"
        with self._http.stream("GET", question.path, headers=headers) as response:
            if response.status_code == 200 and download.size:
                raise httpx.RemoteProtocolError("a range was asked for and the whole was sent")
            if response.status_code not in (200, 206):
                response.read()
                raise _error_of(response)
            download.add(self._unless_stopped(response.iter_raw(1 << 18)))
        if download.size < size_bytes:
            raise httpx.RemoteProtocolError("the blob ended early")

    def _unless_stopped(self, blocks: Any) -> Any:
        for block in blocks:
            if self._stop.is_set():
                raise StoppedError
            yield block

    def _ask(
        self, question: Question, *, content: bytes = b"", timeout_s: float | None = None
    ) -> httpx.Response:
        """Ask until the hub has answered; return an answer that is no refusal."""
        content_sha256 = hashlib.sha256(content).hexdigest()
        url = f"{question.path}?{question.query}" if question.query else question.path

        def once() -> httpx.Response:
            response = self._http.request(
                question.method,
                url,
                content=content,
                headers=self._headers(question, content_sha256),
                timeout=timeout_s or self._connection.timeout_s,
            )
            if response.status_code >= 300:
                raise _error_of(response)
            return response

        return self._again(once)

    def _again(self, once: Callable[[], _Found]) -> _Found:
        """Do something until the hub has answered, with longer and longer pauses."""
        failures = unsigned = 0
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                return once()
            except httpx.TransportError as error:
                self._signer = None  # the hub may have been started anew
                failures += 1
                self._log(f"no answer from the hub, try {failures}: {type(error).__name__}")
                self._pause(failures)
            except HubError as error:
                unsigned += error.status == 401
                if error.status == 401 and unsigned <= 2:
                    self._signer = None
                    continue
                if not _may_pass(error):
                    raise
                failures += 1
                self._log(f"the hub asks to wait, try {failures}: {error.reason}")
                self._pause(failures, error.retry_after_s)

    def _headers(self, question: Question, content_sha256: str) -> dict[str, str]:
        """Return the header that signs a request, with a challenge that is fresh enough."""
        if self._signer is None or time.monotonic() > self._signer_until:
            response = self._http.get("/v1/challenge")
            if response.status_code != 200:
                raise _error_of(response)
            self._signer = Signer(self._key, _read(lambda: str(response.json()["challenge"])))
            self._signer_until = time.monotonic() + CHALLENGE_S
        return {HEADER: self._signer.header(question, content_sha256=content_sha256)}

    def _pause(self, failures: int, least_s: float = 0.0) -> None:
        """Wait before the next try; a little of it is chance, so that sites do not come at once."""
        longest_s = self._connection.longest_pause_s
        pause_s = min(longest_s, 0.1 * 2 ** min(failures, 16)) * random.uniform(0.5, 1.0)
        if self._stop.wait(max(least_s, pause_s)):
            raise StoppedError


def _may_pass(error: HubError) -> bool:
    """Whether trying again later may help."""
    return error.reason == "unreachable" or error.status in (408, 429) or error.status >= 500


def _error_of(response: httpx.Response) -> HubError:
    """Return what the hub, or a proxy in between, said."""
    try:
        fields: Mapping[str, Any] = response.json()
        reason, words = str(fields["reason"])[:40], str(fields["error"])[:500]
    except (ValueError, KeyError, TypeError):
        reason, words = "unreachable", f"Something answered {response.status_code}, not the hub."
    wait = response.headers.get("retry-after", "0")
    return HubError(
        reason,
        words,
        status=response.status_code,
        retry_after_s=float(min(3600, int(wait))) if wait.isascii() and wait.isdigit() else 0.0,
    )


def _read(get: Callable[[], _Found]) -> _Found:
    """Read an answer of the hub; one that cannot be read came from something else."""
    try:
        return get()
    except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise HubError(
            "unreachable",
            "An answer of the hub cannot be read: something in between may have changed it. "
            "Nothing was lost. The site's IT: look at the proxy.",
            status=502,
        ) from error
