"""A whole federation over a real hub: TLS on a free loopback port, real site loops in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quick_stop import stop_quickly
from throwaway_ca import write_certificates

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.client import Connection
from hospitium.engines.hub.engine import HubEngine
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.requests import Member
from hospitium.engines.hub.server import HubServer, Tls
from hospitium.engines.hub.site_loop import Approved, SiteKeys, SiteLoop
from hospitium.engines.workers import WorkerPool
from hospitium.state.store import Store
from hospitium.wire.sealing import RunKey
from hospitium.wire.signing import SigningKey

stop_quickly()

RUN_KEY = RunKey.from_bytes(b"run key of a test".ljust(32, b"."))
"""The same in every process of a test."""


@dataclass(kw_only=True)
class Running:
    """A hub that serves, and what its sites need to reach it; `stop` ends everything."""

    place: Path
    site_ids: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    port: int = 0
    office: Office | None = None
    backend: Backend | None = None
    run_key: RunKey | None = field(default_factory=lambda: RUN_KEY)

    def __post_init__(self) -> None:
        self.ca, certificate, secret = write_certificates(self.place)
        self.key = _key("coordinator")
        self.members = {
            site_id: Member(
                request_key=_key(f"{site_id} request").public,
                signing_key=_key(f"{site_id} signing").public,
            )
            for site_id in self.site_ids
        }
        self.backend = self.backend or LocalBackend(self.place / "hub")
        self.hub = Hub(
            self.backend,
            members=self.office.members if self.office else self.members,
            key=self.key,
            limits=self.limits,
            office=self.office,
        )
        tls = Tls(certificate=certificate, key=secret)
        self.server = HubServer(self.hub, tls=tls, port=self.port)
        self.server.start()
        self.port = self.server.port
        self._loops: list[tuple[SiteLoop, threading.Thread]] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def connection(self, **more) -> Connection:
        more.setdefault("url", self.url)
        return Connection(ca_file=self.ca, longest_pause_s=0.2, **more)

    def request_key(self, site_id: str) -> SigningKey:
        return _key(f"{site_id} request")

    def signing_key(self, site_id: str) -> SigningKey:
        return _key(f"{site_id} signing")

    def engine(self, store: Store, *, on_close: Callable[[], None] | None = None) -> HubEngine:
        return HubEngine(
            self.backend,
            members=self.members,
            key=self.key,
            store=store,
            on_close=on_close or self.stop,
            run_key=self.run_key,
        )

    def join(
        self,
        site_id: str,
        *,
        pool: WorkerPool,
        approved: Callable[[str], Approved | None],
        folder: Path,
        connection: Connection | None = None,
    ) -> SiteLoop:
        """Start a site's agent in a thread."""
        loop = SiteLoop(
            site_id=site_id,
            keys=SiteKeys(
                request=self.request_key(site_id),
                signing=self.signing_key(site_id),
                coordinator=self.key.public,
            ),
            connection=connection or self.connection(),
            folder=folder,
            pool=pool,
            approved=approved,
            wait_s=20,
        )
        thread = threading.Thread(target=loop.run, name=site_id, daemon=True)
        thread.start()
        self._loops.append((loop, thread))
        return loop

    def stop_server(self) -> None:
        self.server.stop()
        self.backend.close()

    def stop(self) -> None:
        for loop, _ in self._loops:
            loop.stop()
        self.stop_server()
        for _, thread in self._loops:
            thread.join(timeout=20)
            assert not thread.is_alive()
        self._loops.clear()


def _key(name: str) -> SigningKey:
    """Return the key of this name: the same in every process of a test."""
    return SigningKey.from_bytes(name.encode().ljust(32, b".")[:32])
