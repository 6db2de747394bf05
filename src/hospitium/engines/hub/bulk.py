"""The two routes over which nearly all bytes go, before the framework: its share was the largest.

Only the plain form of a request is taken here, the one that a site makes; any other goes on to the
framework, which knows the same routes and answers what is wrong with it.
"""

from __future__ import annotations

import re

from fastapi import Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hospitium.engines.hub.errors import error_response
from hospitium.engines.hub.routes_tasks import TaskRoutes
from hospitium.engines.hub.routes_uploads import UploadRoutes
from hospitium.errors import HospitiumError

_BLOB = re.compile(r"/v1/blobs/([0-9a-f]{64})", re.ASCII)
_CHUNK = re.compile(r"/v1/uploads/([0-9a-f]{64})/chunks/(\d{1,15})", re.ASCII)
_SHAPE = re.compile(rb"total=(\d{1,15})&size=(\d{1,15})(?:&through=([01]))?")


class Bulk:
    """Answers the routes of chunks and blobs; everything else goes on.

    Args:
        app: All routes.
        tasks: Has the blobs.
        uploads: Takes the chunks.
    """

    def __init__(self, app: ASGIApp, *, tasks: TaskRoutes, uploads: UploadRoutes) -> None:
        self._app = app
        self._tasks = tasks
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        try:
            response = await self._response(Request(scope, receive))
        except HospitiumError as error:
            response = error_response(error)
        await (response or self._app)(scope, receive, send)

    async def _response(self, request: Request) -> Response | None:
        """Return the answer to a request of the plain form."""
        path = request.scope["path"]
        if request.method == "GET" and (blob := _BLOB.fullmatch(path)):
            return await self._tasks.blob(request, blob[1])
        if request.method == "PUT" and (chunk := _CHUNK.fullmatch(path)):
            shape = _SHAPE.fullmatch(request.scope["query_string"])
            if shape is not None:
                numbers = (int(number or b"0") for number in shape.groups())
                return await self._uploads.chunk(request, chunk[1], int(chunk[2]), *numbers)
        return None
