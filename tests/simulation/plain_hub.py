"""The hub's application without its framework: the real gatekeeper and routes, found by path.

FastAPI costs a third of a seed; some seeds go through it all the same.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from starlette.requests import Request as AsgiRequest
from starlette.responses import JSONResponse, Response

from hospitium.engines.hub.bulk import Bulk
from hospitium.engines.hub.errors import error_response
from hospitium.engines.hub.gatekeeper import Gatekeeper
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.requests import Verifier
from hospitium.engines.hub.routes_office import OfficeRoutes
from hospitium.engines.hub.routes_tasks import TaskRoutes
from hospitium.engines.hub.routes_uploads import UploadRoutes
from hospitium.errors import HospitiumError

_PATTERNS = {"index": r"(?P<index>\d{1,15})"}


class _Recorder:
    """Takes what routes add to an application."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []

    def add_api_route(self, path: str, call: Any, *, methods: list[str], **_: object) -> None:
        pattern = re.sub(
            r"\{(\w+)\}", lambda m: _PATTERNS.get(m[1], rf"(?P<{m[1]}>[0-9a-f]{{64}})"), path
        )
        self.routes.append((methods[0], re.compile(pattern), call))


class Routes:
    """Finds the route of a request and calls it, as the framework does."""

    def __init__(self, routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]]) -> None:
        self._routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = AsgiRequest(scope, receive)
        try:
            response = await self._response(request)
        except (HospitiumError, OSError) as error:
            response = error_response(error)
        await response(scope, receive, send)

    async def _response(self, request: AsgiRequest) -> Response:
        for method, pattern, call in self._routes:
            found = pattern.fullmatch(request.url.path)
            if found and method == request.method:
                values: dict[str, Any] = {
                    name: int(text) if name == "index" else text
                    for name, text in found.groupdict().items()
                }
                for name, default in _queries(getattr(call, "__func__", call)).items():
                    text = request.query_params.get(name)
                    if text is not None and not (text.isdecimal() and int(text) <= 1 << 53):
                        return JSONResponse({}, status_code=404)
                    if name not in values and (text is not None or default is not None):
                        values[name] = int(text) if text is not None else default
                wanted = (
                    {"request": request} if _wants_request(getattr(call, "__func__", call)) else {}
                )
                return await call(**wanted, **values)
        return JSONResponse({}, status_code=404)


@cache
def _wants_request(call: Any) -> bool:
    return "request" in inspect.signature(call).parameters


@cache
def _queries(call: Any) -> dict[str, Any]:
    rows = inspect.signature(call).parameters.items()
    return {
        name: None if row.default is row.empty else row.default
        for name, row in rows
        if name not in ("self", "request", "upload_id", "sha256", "index")
    }


def hub_app(backend: Any, *, key: Any, office: Office) -> Any:
    """Return the hub's application: the real gatekeeper and routes, without FastAPI."""
    limits, api = Limits(), _Recorder()
    verifier = Verifier(office.members, applicants=office.applicants)

    async def challenge() -> JSONResponse:
        return JSONResponse({"challenge": verifier.challenge()})

    api.add_api_route("/v1/challenge", challenge, methods=["GET"])
    tasks = TaskRoutes(backend, members=office.members, limits=limits)
    uploads = UploadRoutes(backend, members=office.members, key=key, limits=limits)
    for routes in (tasks, uploads, OfficeRoutes(office, key=key, limits=limits)):
        routes.add_to(api)  # type: ignore[arg-type]
    inner = Bulk(Routes(api.routes), tasks=tasks, uploads=uploads)
    return Gatekeeper(inner, verifier=verifier, limits=limits, is_enrolling=True)
