"""The hub's routes: what a site may ask over HTTPS, and nothing else.

No byte of a body is read before the request's signature is checked. Rights come from the key that
signed: a site sees its own tasks and uploads and the blobs that its tasks name; what is another's
and what does not exist are answered alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.errors import answer_error, not_found
from hospitium.engines.hub.gatekeeper import Gatekeeper
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.messages import Receipt, Reply
from hospitium.engines.hub.requests import Caller, Member, Verifier
from hospitium.errors import HospitiumError, HubError
from hospitium.state.hub_store import StoredAnswer
from hospitium.state.uploads import MAX_CHUNK_BYTES, Shape
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

READ_BYTES = 1 << 18

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Query(ge=0, le=1 << 53)]


class Hub:
    """The routes with what they need; `app` is the ASGI application.

    Args:
        backend: Where everything is kept.
        members: Who may ask; looked up at each request.
        key: The coordinator's signing key: it signs receipts.
        limits: What a site may do.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        members: Mapping[str, Member],
        key: SigningKey,
        limits: Limits | None = None,
    ) -> None:
        self._backend = backend
        self._members = members
        self._key = key
        self._limits = limits or Limits()
        self._verifier = Verifier(members)
        self._polls: set[asyncio.Event] = set()
        self._is_closing = False
        self.api = FastAPI(
            title="Hospitium hub", version="1", docs_url=None, redoc_url=None, openapi_url=None
        )
        self._add_routes()
        self.app = Gatekeeper(self.api, verifier=self._verifier, limits=self._limits)

    def release_polls(self) -> None:
        """Answer every site that waits, now and from now on; called in the server's own loop."""
        self._is_closing = True
        for poll in self._polls:
            poll.set()

    # --- routes ---------------------------------------------------------------------------------

    async def challenge(self) -> JSONResponse:
        """Give out a challenge, good for five minutes."""
        return JSONResponse({"challenge": self._verifier.challenge()})

    async def tasks(
        self, request: Request, after: Count = 0, wait: Annotated[int, Query(ge=0, le=600)] = 0
    ) -> Response:
        """Return this site's open tasks after a number; wait for one if there is none."""
        site_id = _caller(request).site_id
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        until = loop.time() + min(wait, self._limits.wait_s)

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        end = self._backend.listen(site_id, wake)
        self._polls.add(woken)
        try:
            while True:
                woken.clear()
                tasks = await asyncio.to_thread(self._backend.tasks, site_id, after=after)
                left_s = until - loop.time()
                if tasks or left_s <= 0 or self._is_closing:
                    break
                try:
                    await asyncio.wait_for(woken.wait(), left_s)
                except TimeoutError:
                    continue
        finally:
            self._polls.discard(woken)
            end()
        if not tasks:
            return Response(status_code=204)
        listed = [{"n": task.n, "envelope": task.envelope.decode()} for task in tasks]
        return JSONResponse({"tasks": listed})

    async def blob(self, request: Request, sha256: Digest) -> Response:
        """Return a blob that one of this site's tasks names, or a range of it."""
        site_id = _caller(request).site_id
        size = await asyncio.to_thread(self._backend.blob_size, site_id, sha256)
        if size is None:
            raise not_found()
        start, end = _range(request.headers.get("range"), size=size)
        headers = {"accept-ranges": "bytes", "content-length": str(end - start)}
        if end - start < size:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        return StreamingResponse(
            self._blocks(sha256, start, end),
            status_code=206 if end - start < size else 200,
            headers=headers,
            media_type="application/octet-stream",
        )

    async def upload(self, request: Request, upload_id: Digest) -> JSONResponse:
        """Say which chunks of this site's upload are here."""
        found = await asyncio.to_thread(self._backend.chunks, _caller(request).site_id, upload_id)
        if found is None:
            raise not_found()
        shape, indices = found
        return JSONResponse(
            {
                "total_bytes": shape.total_bytes,
                "chunk_bytes": shape.chunk_bytes,
                "chunks": _spans(indices),
            }
        )

    async def chunk(
        self, request: Request, upload_id: Digest, index: int, total: Count, size: Count
    ) -> JSONResponse:
        """Take one chunk; the same bytes again are fine, other bytes are not."""
        caller = _caller(request)
        allowed = await asyncio.to_thread(self._backend.upload_bytes, caller.site_id)
        if not allowed:
            raise not_found()
        if total > allowed + MAX_CHUNK_BYTES:
            raise HubError("size", "The file is larger than any that was asked for.", status=413)
        pieces = await self._body(request, most=MAX_CHUNK_BYTES)
        await asyncio.to_thread(
            self._put, caller, upload_id, Shape(total_bytes=total, chunk_bytes=size), index, pieces
        )
        return JSONResponse({"ok": True})

    async def complete(self, request: Request, upload_id: Digest) -> Response:
        """Take the statement that goes with a whole upload; answer with the signed receipt."""
        caller = _caller(request)
        statement = await self._statement(request)
        return await asyncio.to_thread(self._complete, caller.site_id, upload_id, statement)

    async def envelopes(self, request: Request) -> Response:
        """Take a statement that comes without a file; answer with the signed receipt."""
        caller = _caller(request)
        statement = await self._statement(request)
        return await asyncio.to_thread(self._take, caller.site_id, statement, found="")

    # --- inside ---------------------------------------------------------------------------------

    def _add_routes(self) -> None:
        add = self.api.add_api_route
        add("/v1/challenge", self.challenge, methods=["GET"], response_model=None)
        add("/v1/tasks", self.tasks, methods=["GET"], response_model=None)
        add("/v1/blobs/{sha256}", self.blob, methods=["GET"], response_model=None)
        add("/v1/envelopes", self.envelopes, methods=["POST"], response_model=None)
        upload = "/v1/uploads/{upload_id}"
        add(upload, self.upload, methods=["GET"], response_model=None)
        add(upload + "/chunks/{index}", self.chunk, methods=["PUT"], response_model=None)
        add(upload + "/complete", self.complete, methods=["POST"], response_model=None)
        for kind in (HospitiumError, RequestValidationError, HTTPException):
            self.api.add_exception_handler(kind, answer_error)

    def _put(
        self, caller: Caller, upload_id: str, shape: Shape, index: int, pieces: Sequence[bytes]
    ) -> None:
        _require_signed(pieces, caller)
        sha256 = bytes.fromhex(caller.content_sha256)
        self._backend.put_chunk(caller.site_id, upload_id, shape, index, pieces, sha256=sha256)

    def _complete(self, site_id: str, upload_id: str, statement: bytes) -> Response:
        """Make the upload durable, then take the statement; a file of another digest is shown."""
        stored = self._backend.stored_answer(site_id, digest(statement))
        if stored is None:
            self._opened(site_id, statement)
            found = self._backend.finish_upload(site_id, upload_id)
        else:
            found = stored.found
        if found is None:
            raise HubError(
                "missing",
                "Not all chunks of this upload are here. The site: ask which are, send the others.",
                status=409,
            )
        response = self._take(site_id, statement, found=found)
        if found != upload_id:
            raise HubError(
                "blob_digest",
                f"The file has the digest {found[:12]}…, not the one that was promised. The update "
                "does not count. The site: look at the disk that it comes from.",
                status=422,
            )
        return response

    def _take(self, site_id: str, statement: bytes, *, found: str) -> Response:
        """Store a statement of this site for a task that is open to it."""
        if stored := self._backend.stored_answer(site_id, digest(statement)):
            return self._receipt(stored)
        reply = self._opened(site_id, statement)
        task = self._backend.open_task(site_id, reply.nonce)
        if task is None:
            raise not_found()
        stored = self._backend.answer(
            StoredAnswer(
                run_id=task.run_id,
                site_id=site_id,
                nonce=reply.nonce,
                kind=reply.kind,
                statement=statement,
                sha256=digest(statement),
                found=found,
            )
        )
        return self._receipt(stored)

    def _opened(self, site_id: str, statement: bytes) -> Reply:
        """Check that this site signed the statement, with the key of the member list."""
        member = self._members.get(site_id)
        if member is None:
            raise not_found()
        return Reply.opened(statement, key=member.signing_key)

    def _receipt(self, stored: StoredAnswer) -> Response:
        receipt = Receipt(site_id=stored.site_id, statement=stored.sha256, index=stored.n)
        return Response(receipt.signed(self._key), media_type="application/json")

    async def _statement(self, request: Request) -> bytes:
        pieces = await self._body(request, most=self._limits.statement_bytes)
        _require_signed(pieces, _caller(request))
        return b"".join(pieces)

    async def _body(self, request: Request, *, most: int) -> list[bytes]:
        """Return the body in the pieces in which it came, at most so many bytes."""
        pieces: list[bytes] = []
        size = 0
        stream = request.stream()
        while True:
            try:
                piece = await asyncio.wait_for(anext(stream, None), self._limits.body_s)
            except TimeoutError:
                raise HubError("slow", "The body stopped coming.", status=408) from None
            except ClientDisconnect:
                raise HubError("slow", "The body was cut off.", status=408) from None
            if piece is None:
                return pieces
            size += len(piece)
            if size > most:
                raise HubError("size", f"A body of more than {most} bytes.", status=413)
            if piece:
                pieces.append(piece)

    async def _blocks(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a range of a blob; a withdrawn blob ends it short, which the site sees."""
        while start < end:
            size = min(READ_BYTES, end - start)
            block = await asyncio.to_thread(self._backend.read, sha256, start=start, size=size)
            yield block
            start += len(block)


def _caller(request: Request) -> Caller:
    """Return who signed; without the gatekeeper before it, no route works."""
    caller = request.scope["hospitium.caller"]
    assert isinstance(caller, Caller)
    return caller


def _require_signed(pieces: Sequence[bytes], caller: Caller) -> None:
    """Refuse a body that is not the one that was signed."""
    sha256 = hashlib.sha256()
    for piece in pieces:
        sha256.update(piece)
    if sha256.hexdigest() != caller.content_sha256:
        raise HubError("signature", "The body is not the one that was signed.", status=401)


def _range(header: str | None, *, size: int) -> tuple[int, int]:
    """Return the bytes to send, from and up to; the whole blob where no one range is asked for."""
    match = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", header or "", re.ASCII)
    if match is None:
        return 0, size
    start = int(match[1])
    end = min(size, int(match[2]) + 1) if match[2] else size
    if start >= end:
        raise HubError("size", f"The blob has {size} bytes; none was asked for.", status=416)
    return start, end


def _spans(indices: Sequence[int]) -> list[list[int]]:
    """Return sorted numbers as pairs of first and last.

    Example:
        >>> _spans([0, 1, 2, 5])
        [[0, 2], [5, 5]]
    """
    spans: list[list[int]] = []
    for index in indices:
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return spans
