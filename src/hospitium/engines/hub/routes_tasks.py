"""Routes that bring a task to its site: the long poll, and the file of the task's params."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.bodies import caller_of
from hospitium.engines.hub.describing import BYTES, DATA, NUMBER, TEXT, answers, list_of, object_of
from hospitium.engines.hub.errors import not_found
from hospitium.engines.hub.lane import Lane
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.messages import NO_TASK
from hospitium.engines.hub.requests import Member, refused
from hospitium.errors import HubError
from hospitium.state.hub_store import OpenTask

READ_BYTES = 1 << 20

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Query(ge=0, le=1 << 53)]


class TaskRoutes:
    """What a site takes from the hub.

    Args:
        backend: Where everything is kept.
        members: Who may ask; looked up again before a task is handed out.
        limits: What a site may do.
    """

    def __init__(self, backend: Backend, *, members: Mapping[str, Member], limits: Limits) -> None:
        self._backend = backend
        self._members = members
        self._limits = limits
        self._polls: set[asyncio.Event] = set()
        self._is_closing = False
        self._lane = Lane()

    def add_to(self, api: FastAPI) -> None:
        """Add these routes."""
        task = object_of(n=NUMBER, envelope=TEXT)
        tasks = answers("Open tasks.", object_of(tasks=list_of(task)), empty=True)
        blob = answers("The blob, or the range asked for.", DATA, media_type=BYTES)
        api.add_api_route(
            "/v1/tasks", self.tasks, methods=["GET"], response_model=None, responses=tasks
        )
        api.add_api_route(
            "/v1/blobs/{sha256}", self.blob, methods=["GET"], response_model=None,
            response_class=Response, responses=blob,
        )  # fmt: skip

    def release_polls(self) -> None:
        """Answer every site that waits, now and from now on; called in the server's own loop."""
        self._is_closing = True
        for poll in self._polls:
            poll.set()

    async def tasks(
        self, request: Request, after: Count = 0, wait: Annotated[int, Query(ge=0, le=600)] = 0
    ) -> Response:
        """Return this site's open tasks after a number; wait for one if there is none."""
        site_id = caller_of(request).site_id
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        until = loop.time() + min(wait, self._limits.wait_s)

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        end = self._backend.listen(site_id, wake)
        self._polls.add(woken)
        try:
            while True:
                woken.clear()
                tasks = await asyncio.to_thread(self._tasks, site_id, after=after)
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
        if site_id not in self._members:
            raise refused("signature", "The site is no longer a member.")
        if not tasks:
            return Response(status_code=204)
        listed = [{"n": task.n, "envelope": task.envelope.decode()} for task in tasks]
        return JSONResponse({"tasks": listed})

    def _tasks(self, site_id: str, *, after: int) -> list[OpenTask]:
        return [] if after == NO_TASK else self._backend.tasks(site_id, after=after)

    async def blob(self, request: Request, sha256: Digest) -> Response:
        """Return a blob that one of this site's tasks names, or a range of it."""
        site_id = caller_of(request).site_id
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

    async def _blocks(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a range of a blob; a withdrawn blob ends it short, which the site sees."""
        async with self._lane.ride(end - start) as passed:
            while start < end:
                size = min(READ_BYTES, end - start)
                block = await asyncio.to_thread(self._backend.read, sha256, start=start, size=size)
                yield block
                passed(len(block))
                start += len(block)


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
