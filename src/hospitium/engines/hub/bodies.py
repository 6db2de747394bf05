"""Reading a request: who sent it, its body up to a bound, and that the body is the signed one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

from fastapi import Request
from starlette.requests import ClientDisconnect

from hospitium.engines.hub.requests import Caller
from hospitium.errors import HubError


def caller_of(request: Request) -> Caller:
    """Return who signed; without the gatekeeper before it, no route works."""
    caller = request.scope["hospitium.caller"]
    assert isinstance(caller, Caller)
    return caller


async def read_pieces(request: Request, *, most: int, silence_s: float) -> AsyncIterator[bytes]:
    """Yield the body in the pieces in which it comes.

    Raises:
        HubError: It is larger than ``most`` bytes (413), or stopped coming (408).
    """
    size = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(silence_s):
                piece = await anext(stream, None)
        except TimeoutError:
            raise HubError("slow", "The body stopped coming.", status=408) from None
        except ClientDisconnect:
            raise HubError("slow", "The body was cut off.", status=408) from None
        if piece is None:
            return
        size += len(piece)
        if size > most:
            raise HubError("size", f"A body of more than {most} bytes.", status=413)
        if piece:
            yield piece


async def read_body(request: Request, *, most: int, silence_s: float) -> bytes:
    """Return a whole body, as it was signed; see `read_pieces`.

    Raises:
        HubError: Also where it is not the one that was signed (401).
    """
    pieces = [piece async for piece in read_pieces(request, most=most, silence_s=silence_s)]
    require_signed(pieces, caller_of(request))
    return b"".join(pieces)


def require_signed(pieces: Sequence[bytes], caller: Caller) -> None:
    """Refuse a body that is not the one that was signed.

    Raises:
        HubError: Status 401.
    """
    sha256 = hashlib.sha256()
    for piece in pieces:
        sha256.update(piece)
    require_digest(sha256.hexdigest(), caller)


def require_digest(sha256: str, caller: Caller) -> None:
    """Refuse a body that has another digest than the one that was signed.

    Raises:
        HubError: Status 401.
    """
    if sha256 != caller.content_sha256:
        raise not_signed()


def not_signed() -> HubError:
    """Return the error of a body that is not the one that was signed."""
    return HubError("signature", "The body is not the one that was signed.", status=401)
