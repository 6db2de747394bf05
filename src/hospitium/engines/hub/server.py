"""The hub as a server: uvicorn over TLS in a thread of the coordinator's process."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from hospitium.engines.hub.app import Hub
from hospitium.errors import EngineError

START_S = 30.0
MAX_HEAD_BYTES = 16 << 10


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The server's certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class HubServer:
    """Serves a hub until it is stopped.

    Args:
        hub: The routes.
        tls: Certificate and key; there is no way to serve without them.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one, and `port` says which.
    """

    def __init__(self, hub: Hub, *, tls: Tls, host: str = "127.0.0.1", port: int = 0) -> None:
        self._hub = hub
        self._socket = socket.create_server((host, port), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                hub.app,
                ssl_certfile=tls.certificate,
                ssl_keyfile=tls.key,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    def start(self) -> None:
        """Serve; returns once requests are answered.

        Raises:
            EngineError: It could not be started; the log of uvicorn says why.
        """
        self._thread.start()
        pause = threading.Event()
        for _ in range(round(START_S / 0.01)):
            if self._server.started or not self._thread.is_alive():
                break
            pause.wait(0.01)
        if not self._server.started:
            raise EngineError(
                f"The hub could not be started at port {self.port}. Nothing was asked of any site. "
                "Look at the certificate and key of the server, then start again."
            )

    def stop(self) -> None:
        """Answer who waits, close every connection and the port; safe to call twice."""
        self._server.should_exit = True
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._hub.release_polls)
        if self._thread.ident is not None:
            self._thread.join(timeout=10)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])
