"""Routes that are no task: enrolment, member lists, plans, what a site says, heartbeat, echo."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.bodies import (
    caller_of,
    read_body,
    read_pieces,
    require_digest,
)
from hospitium.engines.hub.describing import (
    BEAT,
    BYTES,
    DATA,
    DIGEST,
    NUMBER,
    SIGNED,
    STANDING,
    TEXT,
    Described,
    answers,
    body_of,
    list_of,
    object_of,
)
from hospitium.engines.hub.limits import Limits, Meter
from hospitium.engines.hub.messages import Receipt
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.routes_tasks import Count
from hospitium.errors import HubError
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

ECHO_BLOCK = secrets.token_bytes(1 << 16)
"""What an echo answers with, over and over; a proxy cannot make it smaller by compressing it."""


class OfficeRoutes:
    """What a site asks of a federation's desk.

    Args:
        office: The desk.
        key: The coordinator's signing key: it signs receipts.
        limits: What a site may do.
    """

    def __init__(self, office: Office, *, key: SigningKey, limits: Limits) -> None:
        self._office = office
        self._key = key
        self._limits = limits
        self._beats = Meter(per_s=limits.beats_per_s, burst=10.0)
        self._echoes = Meter(per_s=limits.echo_bytes_per_s, burst=limits.echo_burst)

    def add_to(self, api: FastAPI) -> None:
        """Add these routes."""
        signed = body_of("A statement that the site signed.", SIGNED)
        beat = body_of("Whole numbers and words of closed lists.", BEAT)
        texts = list_of(TEXT)
        echoed = answers("What arrived.", object_of(bytes=NUMBER, sha256=DIGEST))
        echoed[200]["content"][BYTES] = {"schema": DATA}
        rows: list[tuple[str, str, Callable[..., Any], Described, Described | None]] = [
            ("POST", "enrolments", self.enrolments, object_of(request=DIGEST), signed),
            ("GET", "members", self.members, object_of(lists=texts), None),
            ("GET", "plans", self.plans, object_of(plans=texts), None),
            ("POST", "said", self.said, SIGNED, signed),
            ("POST", "heartbeat", self.heartbeat, object_of(time=TEXT, standing=STANDING), beat),
            ("GET", "standing", self.standing, STANDING, None),
        ]
        for method, name, route, schema, body in rows:
            api.add_api_route(
                f"/v1/{name}", route, methods=[method], response_model=None,
                responses=answers("Done.", schema), openapi_extra=body,
            )  # fmt: skip
        api.add_api_route(
            "/v1/echo", self.echo, methods=["POST"], response_model=None, responses=echoed,
            openapi_extra=body_of("Any bytes.", DATA),
        )  # fmt: skip

    async def enrolments(self, request: Request) -> JSONResponse:
        """Take an enrolment request that the key of an open invite signed."""
        limits = self._limits
        pieces = read_pieces(request, most=limits.small_bytes, silence_s=limits.body_s)
        try:
            async with asyncio.timeout(limits.body_s):
                envelope = b"".join([piece async for piece in pieces])
        except TimeoutError:
            raise HubError("slow", "The body came too slowly.", status=408) from None
        return JSONResponse({"request": await asyncio.to_thread(self._office.enrol, envelope)})

    async def members(self, request: Request, after: Count = 0) -> JSONResponse:
        """Return the signed member lists after an epoch; the first of them if there are many."""
        lists = await asyncio.to_thread(self._office.lists, after=after)
        return JSONResponse({"lists": [envelope.decode() for envelope in lists]})

    async def plans(self, request: Request) -> JSONResponse:
        """Return the signed plans that are offered."""
        plans = await asyncio.to_thread(self._office.plans)
        return JSONResponse({"plans": [envelope.decode() for envelope in plans]})

    async def said(self, request: Request) -> Response:
        """Keep an approval, a refusal or a withdrawal; answer with the signed receipt."""
        envelope = await self._body(request)
        site_id = caller_of(request).site_id
        number = await asyncio.to_thread(self._office.take_said, site_id, envelope)
        receipt = Receipt(site_id=site_id, statement=digest(envelope), index=number)
        return Response(receipt.signed(self._key), media_type="application/json")

    async def heartbeat(self, request: Request) -> JSONResponse:
        """Take a heartbeat; answer with the time, and with what is thought of this site."""
        site_id = caller_of(request).site_id
        self._beats.take(site_id)
        beat = Beat.decoded(await self._body(request))
        await asyncio.to_thread(self._office.heard, site_id, beat)
        standing = await asyncio.to_thread(self._office.standing, site_id)
        return JSONResponse({"time": self._office.time(), "standing": standing})

    async def standing(self, request: Request) -> JSONResponse:
        """Return what the coordinator thinks of this site."""
        site_id = caller_of(request).site_id
        return JSONResponse(await asyncio.to_thread(self._office.standing, site_id))

    async def echo(
        self, request: Request, size: Annotated[int, Query(ge=0, le=8 << 20)] | None = None
    ) -> Response:
        """Say what arrived, or answer with so many bytes: to try out a line; nothing is kept."""
        caller, limits = caller_of(request), self._limits
        stated = int(request.headers.get("content-length", "0"))
        self._echoes.take(caller.site_id, stated + (size or 0))
        sha256, arrived = hashlib.sha256(), 0
        async for piece in read_pieces(request, most=limits.echo_bytes, silence_s=limits.body_s):
            sha256.update(piece)
            arrived += len(piece)
        require_digest(sha256.hexdigest(), caller)
        if size is None:
            return JSONResponse({"bytes": arrived, "sha256": sha256.hexdigest()})
        headers = {"content-length": str(size), "cache-control": "no-store"}
        return StreamingResponse(
            _echoed(size), headers=headers, media_type="application/octet-stream"
        )

    async def _body(self, request: Request) -> bytes:
        limits = self._limits
        return await read_body(request, most=limits.small_bytes, silence_s=limits.body_s)


async def _echoed(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield ECHO_BLOCK[:size]
        size -= len(ECHO_BLOCK)
