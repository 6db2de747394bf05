"""Routes by which a site hands in: the chunks of its update, and the statement about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.bodies import (
    caller_of,
    not_signed,
    read_body,
    read_pieces,
    require_signed,
)
from hospitium.engines.hub.describing import (
    DATA,
    NUMBER,
    SIGNED,
    answers,
    body_of,
    list_of,
    object_of,
)
from hospitium.engines.hub.errors import not_found
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.messages import Receipt, Reply
from hospitium.engines.hub.requests import Caller, Member
from hospitium.engines.hub.routes_tasks import Count, Digest
from hospitium.errors import HubError
from hospitium.state.hub_store import StoredAnswer
from hospitium.state.unfinished import MAX_CHUNK_BYTES, NotNextError, OtherDigestError, Shape
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

Index = Annotated[int, Path(ge=0, le=1 << 53)]
Flag = Annotated[int, Query(ge=0, le=1)]


class UploadRoutes:
    """What a site brings to the hub in answer to a task.

    Args:
        backend: Where everything is kept.
        members: Whose statements count; looked up at each request.
        key: The coordinator's signing key: it signs receipts.
        limits: What a site may do.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        members: Mapping[str, Member],
        key: SigningKey,
        limits: Limits,
    ) -> None:
        self._backend = backend
        self._members = members
        self._key = key
        self._limits = limits

    def add_to(self, api: FastAPI) -> None:
        """Add these routes."""
        statement = body_of("A statement that the site signed.", SIGNED)
        receipt = answers("The signed receipt.", SIGNED)
        here = object_of(total_bytes=NUMBER, chunk_bytes=NUMBER, chunks=list_of(list_of(NUMBER)))
        upload = "/v1/uploads/{upload_id}"
        api.add_api_route(
            "/v1/envelopes", self.envelopes, methods=["POST"], response_model=None,
            responses=receipt, openapi_extra=statement,
        )  # fmt: skip
        api.add_api_route(
            upload, self.upload, methods=["GET"], response_model=None,
            responses=answers("The chunks that are here, first and last of each row.", here),
        )  # fmt: skip
        api.add_api_route(
            upload + "/chunks/{index}", self.chunk, methods=["PUT"], response_model=None,
            responses=answers("Taken.", object_of(ok={"const": True})),
            openapi_extra=body_of("The bytes of one chunk.", DATA),
        )  # fmt: skip
        api.add_api_route(
            upload + "/complete", self.complete, methods=["POST"], response_model=None,
            responses=receipt, openapi_extra=statement,
        )  # fmt: skip

    async def upload(self, request: Request, upload_id: Digest) -> JSONResponse:
        """Say which chunks of this site's upload are here."""
        site_id = caller_of(request).site_id
        found = await asyncio.to_thread(self._backend.chunks, site_id, upload_id)
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
        self,
        request: Request,
        upload_id: Digest,
        index: Index,
        total: Count,
        size: Count,
        through: Flag = 0,
    ) -> JSONResponse:
        """Take one chunk; the same bytes again are fine, other bytes are not.

        With ``through`` the digest that was signed is that of the file through this chunk: one
        hash serves for the request and for the file. Where the bytes before are not here in order,
        the answer is 409 (``order``), and the site signs the chunk by itself.
        """
        caller = caller_of(request)
        silence_s = self._limits.body_s
        pieces = [
            piece async for piece in read_pieces(request, most=MAX_CHUNK_BYTES, silence_s=silence_s)
        ]
        shape = Shape(total_bytes=total, chunk_bytes=size)
        put = self._put_through if through else self._put
        await asyncio.to_thread(put, caller, upload_id, shape, index, pieces)
        return JSONResponse({"ok": True})

    async def complete(self, request: Request, upload_id: Digest) -> Response:
        """Take the statement that goes with a whole upload; answer with the signed receipt."""
        statement = await self._statement(request)
        site_id = caller_of(request).site_id
        return await asyncio.to_thread(self._complete, site_id, upload_id, statement)

    async def envelopes(self, request: Request) -> Response:
        """Take a statement that comes without a file; answer with the signed receipt."""
        statement = await self._statement(request)
        return await asyncio.to_thread(self._take, caller_of(request).site_id, statement, found="")

    # --- inside ---------------------------------------------------------------------------------

    def _put(
        self, caller: Caller, upload_id: str, shape: Shape, index: int, pieces: Sequence[bytes]
    ) -> None:
        """Write a chunk of a file that an open task of the caller asks for."""
        require_signed(pieces, caller)
        self._require_asked(caller, shape)
        sha256 = bytes.fromhex(caller.content_sha256)
        self._backend.put_chunk(caller.site_id, upload_id, shape, index, pieces, sha256=sha256)

    def _put_through(
        self, caller: Caller, upload_id: str, shape: Shape, index: int, pieces: Sequence[bytes]
    ) -> None:
        """Write the chunk that comes next; what was signed is the digest of the file through it."""
        self._require_asked(caller, shape)
        sha256 = bytes.fromhex(caller.content_sha256)
        try:
            self._backend.put_chunk(
                caller.site_id, upload_id, shape, index, pieces, sha256=sha256, is_through=True
            )
        except NotNextError:
            raise HubError(
                "order",
                "The bytes before this chunk are not here, or it is. It was not written. The "
                "site: sign the chunk by itself.",
                status=409,
            ) from None
        except OtherDigestError:
            raise not_signed() from None

    def _require_asked(self, caller: Caller, shape: Shape) -> None:
        """Refuse a file that no open task of the caller asks for."""
        allowed = self._backend.upload_bytes(caller.site_id)
        if not allowed:
            raise not_found()
        if shape.total_bytes > allowed:
            raise HubError("size", "The file is larger than any that was asked for.", status=413)

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
        limits = self._limits
        return await read_body(request, most=limits.statement_bytes, silence_s=limits.body_s)


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
