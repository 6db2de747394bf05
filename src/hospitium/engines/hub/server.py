"""The hub as a server: uvicorn over TLS in a thread of the coordinator's process.

A connection is given up that says nothing for long, or whose next request comes too slowly, and an
address may hold only so many. When the server stops, nothing of it is left open.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hospitium.buffers import share_one_arena
from hospitium.engines.hub.front import Served
from hospitium.errors import EngineError

START_S = 30.0
MAX_HEAD_BYTES = 16 << 10
HEAD_S = 30.0
"""How long the head of a request may take, or what is left of a body that was answered already."""

GOODBYE_S = 0.05
"""How long an idle peer has to close its side of TLS when the server stops."""

TURNS = 5
"""Turns of the loop in which an aborted TLS connection is closed, layer by layer."""

ROOM_BYTES = 1 << 18
"""What is read of a connection at a time."""

PER_ADDRESS = 512
"""Connections of one address: many sites may come through one proxy."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The server's certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class _Connection(H11Protocol, asyncio.BufferedProtocol):
    """A connection that must have asked soon after it has begun to.

    What comes is read into one buffer, all records that are there at once: record by record, each
    is copied twice more on its way. All connections of a server share it, since it is filled and
    emptied in one turn of the loop: who only connects costs no more memory than a connection.
    """

    held: Counter[str]
    head_s: float
    per_address: int
    room: memoryview

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(self.room[:nbytes])

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, unless this address has too many connections already."""
        super().connection_made(transport)
        _send_at_once(transport)
        address = str(self.client and self.client[0])
        self.held[address] += 1
        self._address = address
        self._clock = self.loop.call_later(self.head_s, self.transport.abort)
        if self.held[address] > self.per_address:
            transport.abort()

    def data_received(self, data: bytes | memoryview) -> None:
        """Let the clock run while a request is half there; one byte more does not turn it back."""
        super().data_received(data)  # type: ignore[arg-type]  # it is copied from, no more
        is_answered = self.cycle is None or self.cycle.response_complete
        if not is_answered or not self._is_halfway():
            self._clock.cancel()
        elif self._clock.cancelled():
            self._clock = self.loop.call_later(self.head_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._clock.cancel()
        self.held[self._address] -= 1
        if not self.held[self._address]:
            del self.held[self._address]
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Say goodbye; who does not answer is left after a moment."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(GOODBYE_S, self.transport.abort)

    def _is_halfway(self) -> bool:
        """Whether more must come before the next request can be answered."""
        return self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])


class HubServer:
    """Serves a hub, or a front with several, until it is stopped.

    Args:
        hub: The routes.
        tls: Certificate and key; there is no way to serve without them.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one, and `port` says which.
        head_s: How long the head of a request may take.
        per_address: Connections that one address may hold.
    """

    def __init__(
        self,
        hub: Served,
        *,
        tls: Tls,
        host: str = "127.0.0.1",
        port: int = 0,
        head_s: float = HEAD_S,
        per_address: int = PER_ADDRESS,
    ) -> None:
        share_one_arena()
        self._hub = hub
        self._socket = socket.create_server((host, port), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                hub.app,
                interface="asgi3",
                ssl_certfile=tls.certificate,
                ssl_keyfile=tls.key,
                http=_connection_type(head_s=head_s, per_address=per_address),
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
        await self._drop()

    async def _drop(self) -> None:
        """Close what uvicorn leaves: peers who do not say goodbye, and who still shake hands.

        The loop ends after this, and whatever is open then stays open until it is collected.
        """
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(TURNS):
            await asyncio.sleep(0)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Do not hold back the body of an answer until its head was acknowledged: 40 ms each time.

    asyncio sees to it only for sockets that were made with the protocol named.
    """
    line = transport.get_extra_info("socket")
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connection_type(*, head_s: float, per_address: int) -> type[asyncio.Protocol]:
    """Return the kind of connection of one server, with a count and a buffer of its own."""
    own: dict[str, Any] = {
        "held": Counter(),
        "head_s": head_s,
        "per_address": per_address,
        "room": memoryview(bytearray(ROOM_BYTES)),
    }
    return type("Connection", (_Connection,), own)
