"""Several federations behind one URL: the first part of a path names the federation.

Each federation has its own hub, with its own keys, challenges, backend and limits; they share
nothing but the port. What a site signs is the path behind the federation's name, as if its hub
stood alone: a request that was signed for one federation is of no use in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from hospitium.engines.hub.errors import error_response
from hospitium.errors import HubError
from hospitium.wire.statement import is_id


class Served(Protocol):
    """What a server serves: a hub, or a front with several."""

    @property
    def app(self) -> ASGIApp:
        """The ASGI application."""

    def release_polls(self) -> None:
        """Answer every site that waits, now and from now on; called in the server's own loop."""


class Front:
    """Hands each request over to the hub of its federation.

    Args:
        hubs: By the name of the federation; looked up at each request, so one may be added while
            the server runs.
    """

    def __init__(self, hubs: Mapping[str, Served]) -> None:
        self._hubs = hubs

    @property
    def app(self) -> ASGIApp:
        """The ASGI application."""
        return self._serve

    def release_polls(self) -> None:
        """Answer every site that waits, now and from now on; called in the server's own loop."""
        for hub in list(self._hubs.values()):
            hub.release_polls()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with the federation's name taken off its path."""
        if scope["type"] != "http":
            return
        raw_path: bytes = scope["raw_path"]
        name = raw_path[1:].partition(b"/")[0].decode("latin-1")
        hub = self._hubs.get(name) if is_id(name) else None
        prefix = f"/{name}"
        if hub is None or not scope["path"].startswith(f"{prefix}/"):
            unknown = HubError("not_found", "There is no such federation here.", status=404)
            await error_response(unknown, close=True)(scope, receive, send)
            return
        rest = {"path": scope["path"][len(prefix) :], "raw_path": raw_path[len(prefix) :]}
        await hub.app({**scope, **rest}, receive, send)
