"""One connection to a NATS cluster, in a thread of its own; it outlives the servers it is on."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.js.manager import JetStreamManager

from hospitium.engines.hub.nats_settings import (
    MIN_PAYLOAD_BYTES,
    NatsSettings,
    require_version,
    user_name,
)
from hospitium.errors import EngineError, HospitiumError, HubError

TRY_S = 2.0
"""How long one request waits; a server that was just killed answers nothing."""

PAUSE_S = 0.05
NO_PEERS = 10005
"""What a cluster says whose servers have not found each other yet."""

CLOSE_S = 2.0

_until: contextvars.ContextVar[float] = contextvars.ContextVar("until")
_Found = TypeVar("_Found")


class _TidyClient(Client):
    """Closes a connection whose greeting failed; the library would only let go of it."""

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
            with suppress(TimeoutError, OSError):
                await asyncio.wait_for(
                    self._transport.wait_closed(),  # type: ignore[no-untyped-call]
                    CLOSE_S,
                )
        await super()._connect_to_server(s)


class Link:
    """Runs coroutines against the cluster for other threads, and tries again while it is away.

    Args:
        settings: Which cluster, and how long to wait for it.
        subject: Notes below this subject are handed to ``on_note``.
        on_note: Called in the link's thread with a note's subject; "" after a reconnection, when
            notes may have been missed.

    Attributes:
        num_violations: How often the cluster said that this user may not do what it did.
    """

    def __init__(
        self, settings: NatsSettings, *, subject: str, on_note: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._subject = subject
        self._on_note = on_note
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._fatal: HospitiumError | None = None
        self._last_error = ""
        self._is_closed = False
        self.num_violations = 0
        self._loop = asyncio.new_event_loop()
        self._background: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Coroutine[Any, Any, _Found]], *, within_s: float) -> _Found:
        """Run a coroutine; its requests are tried again for so many seconds in all.

        Raises:
            HubError: The cluster was away for longer.
            EngineError: The cluster cannot serve this hub at all, or the link was closed.
        """
        if self._is_closed:
            raise EngineError(
                "The hub's link to the NATS cluster was closed. What is stored there stays. "
                "Start the hub again."
            )

        running = self.bounded(work, within_s=within_s)
        return asyncio.run_coroutine_threadsafe(running, self._loop).result()

    async def bounded(
        self, work: Callable[[], Coroutine[Any, Any, _Found]], *, within_s: float
    ) -> _Found:
        """Do as `call` does, from within the link's loop."""
        _until.set(self._loop.time() + within_s)
        return await work()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine until the link is closed."""

        def start() -> None:
            self._background.add(self._loop.create_task(work()))

        self._loop.call_soon_threadsafe(start)

    async def again(
        self,
        once: Callable[[Client, JetStreamManager], Awaitable[_Found]],
        *,
        mend: Callable[[], Awaitable[None]] | None = None,
    ) -> _Found:
        """Do one request until it was answered; ``mend`` is called where a stream is not there.

        What was asked may have been done although no answer came: it must do no harm twice.
        """
        while True:
            try:
                client = await self._connected()
                return await once(client, JetStreamManager(client, timeout=TRY_S))
            except (nats.js.errors.NoStreamResponseError, nats.errors.NoRespondersError) as error:
                await self._pause(error)
                if mend is not None:
                    await mend()
            except nats.js.errors.NotFoundError as error:
                if mend is None or error.err_code != 10059:
                    raise
                await self._pause(error)
                await mend()
            except nats.js.errors.ServiceUnavailableError as error:
                if error.err_code == 10077:
                    raise
                await self._pause(error)
            except nats.js.errors.APIError as error:
                if error.err_code != NO_PEERS:
                    raise
                await self._pause(error)
            except (nats.errors.Error, OSError) as error:  # time-outs are among them
                await self._pause(error)

    async def note(self, subject: str) -> None:
        """Tell all hubs; nobody relies on it being heard."""
        if self._client is not None and self._client.is_connected:
            try:
                await self._client.publish(subject, b"")
            except (nats.errors.Error, OSError) as error:
                self._last_error = type(error).__name__

    def close(self) -> None:
        """Disconnect and end the thread; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- inside ---------------------------------------------------------------------------------

    async def _pause(self, error: Exception) -> None:
        """Wait a little before the next try, unless there was enough of that."""
        self._last_error = type(error).__name__
        if self._fatal is not None:
            raise self._fatal
        if self._loop.time() > _until.get():
            raise HubError(
                "unreachable",
                f"The hub's storage cluster did not answer in time ({self._last_error}). What was "
                "stored stays, and sites keep what they have to send. Whoever runs the cluster: "
                "look at its servers; most of them must be up.",
                status=503,
                retry_after_s=2.0,
            )
        await asyncio.sleep(PAUSE_S)

    async def _connected(self) -> Client:
        """Return the connection; while it is being mended, `_pause` waits for it."""
        if self._fatal is not None:
            raise self._fatal
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
        if not self._client.is_connected:
            raise nats.errors.ConnectionReconnectingError
        return self._client

    async def _connect(self) -> Client:
        settings = self._settings
        client = _TidyClient()
        more: dict[str, Any] = {"reconnect_time_wait": 0.2}  # typed as whole seconds
        if settings.key is not None:
            # The client's own way to NKeys needs two more packages; wire signs as well as they do.
            key = settings.key
            client._public_nkey = user_name(key)
            client._auth_configured = True
            more["signature_cb"] = lambda nonce: base64.b64encode(key.sign(nonce.encode()))
        if any(url.startswith("tls://") for url in settings.urls):
            ca_file = None if settings.ca_file is None else str(settings.ca_file)
            more["tls"] = ssl.create_default_context(cafile=ca_file)
        connecting = client.connect(
            servers=list(settings.urls),
            error_cb=self._on_error,
            reconnected_cb=self._on_reconnected,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            pending_size=32 << 20,
            **more,
        )
        try:
            await asyncio.wait_for(connecting, max(0.1, _until.get() - self._loop.time()))
        except TimeoutError:
            await client.close()
            raise self._fatal or nats.errors.NoServersError from None
        await client.subscribe(f"{self._subject}.>", cb=self._on_message)
        self._check(client)
        return client

    def _check(self, client: Client) -> None:
        """Refuse a server that cannot serve; this is not mended by waiting."""
        try:
            require_version(str(client._server_info.get("version", "none")))
            if client.max_payload < MIN_PAYLOAD_BYTES:
                raise EngineError(
                    f"The NATS cluster takes messages of {client.max_payload} bytes; expected at "
                    f"least {MIN_PAYLOAD_BYTES}. Nothing was stored there. Whoever runs the "
                    "cluster: set max_payload to 8MB on every server, then start the hub again."
                )
        except EngineError as error:
            self._fatal = error
            raise

    async def _on_error(self, error: Exception) -> None:
        """Note what the cluster said; what it does not permit will not work later either."""
        text = str(error).lower()
        self._last_error = type(error).__name__
        if "permissions violation" in text:
            self.num_violations += 1
            self._fatal = EngineError(
                f"The NATS cluster does not permit this hub what it needs ({self.num_violations} "
                "times so far). Nothing of that was stored. Whoever runs the cluster: give the "
                "hub's user the subjects of docs/how-to/run-a-nats-cluster.md, then start again."
            )
        elif "authorization violation" in text:
            self._fatal = EngineError(
                "The NATS cluster does not know this hub's key. Nothing was stored there. Whoever "
                "runs the cluster: name the hub's public key in its configuration, then start "
                "again."
            )

    async def _on_reconnected(self) -> None:
        if self._client is not None:
            try:
                self._check(self._client)
            except EngineError:
                return
        self._on_note("")

    async def _on_message(self, message: Msg) -> None:
        self._on_note(message.subject)

    async def _end(self) -> None:
        """Disconnect, then end whatever still runs; a dead server cannot hold it up."""
        for task in self._background:
            task.cancel()
        if self._client is not None:
            # The client may have waited for a task of its own that ended before.
            with suppress(TimeoutError, asyncio.CancelledError, nats.errors.Error, OSError):
                await asyncio.wait_for(self._client.close(), CLOSE_S)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=CLOSE_S)
