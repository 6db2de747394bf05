"""A federation on this machine whose hub serves over TLS, and what ``doctor`` says of its site."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from carried import NAME, POLICY, Federation

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.front import Front
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.server import HubServer, Tls
from hospitium.operations.coordinating import admit_site, begin_federation, receive_request
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.doctor_checks import Check
from hospitium.operations.doctor_way import Wishes, check_way
from hospitium.site.line import keep_line
from hospitium.wire.certificates import make_authority, make_server_certificate

SITE = "oslo"


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as trial:
        return int(trial.getsockname()[1])


@dataclass(kw_only=True)
class Doctored:
    """One site that was admitted, and its hub; ``made`` is when its certificate was made."""

    folder: Path
    host: str = "localhost"
    made: datetime = field(default_factory=lambda: datetime.now(UTC))
    named: str = ""

    def __post_init__(self) -> None:
        self.port = free_port()
        self.address = f"https://{self.host}:{self.port}"
        self.authority = make_authority("Centre of the north", now=self.made)
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(self.authority.certificate)
        self.federation = Federation(folder=self.folder)
        self.certificate = self.folder / "server.pem"
        names = [f"https://{self.named or self.host}:{self.port}"]
        issued = make_server_certificate(self.authority, names, now=self.made)
        self.certificate.write_bytes(issued.both)
        begin_federation(
            self.federation.coordinator,
            NAME,
            addresses=[self.address],
            tls_ca=self.ca,
            server=(self.certificate, self.certificate),
            officer_key=self.folder / "officer.key",
            now=datetime.now(UTC),
        )
        self._admit()
        self.server: HubServer | None = None

    def _admit(self) -> None:
        federation = self.federation
        request, words = federation.ask(SITE)
        now = datetime.now(UTC)
        receive_request(federation.coordinator, NAME, request, now=now)
        keys = [self.folder / "officer.key"]
        admit_site(federation.coordinator, NAME, SITE, heard=words, officer_keys=keys, now=now)
        federation.carry(SITE)
        federation.place(SITE).folder.joinpath("policy.toml").write_text(POLICY.format(needed=1))

    @property
    def home(self):
        return self.federation.site(SITE)

    def serve(self) -> Doctored:
        """Start the hub."""
        desk = existing(self.federation.coordinator, NAME)
        office, key = Office(desk), coordinator_key(desk)
        self.backend = LocalBackend(self.folder / "hub")
        hub = Hub(self.backend, members=office.members, key=key, office=office)
        tls = Tls(certificate=self.certificate, key=self.certificate)
        self.server = HubServer(Front({NAME: hub}), tls=tls, port=self.port)
        self.server.start()
        return self

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.backend.close()
            self.server = None

    def other_ca(self, name: str) -> tuple[Path, Path]:
        """Return the authority of a proxy that opens TLS, and its certificate for this hub."""
        now = datetime.now(UTC)
        authority = make_authority(name, now=now)
        ca, server = self.folder / "proxy-ca.pem", self.folder / "proxy.pem"
        ca.write_bytes(authority.certificate)
        server.write_bytes(make_server_certificate(authority, [self.address], now=now).both)
        return ca, server

    def by_proxy(self, url: str, *, login: str = "", ca_bundle: Path | None = None) -> None:
        """Let the site take a proxy."""
        file = self.folder / "login"
        file.write_text(login)
        keep_line(
            self.federation.place(SITE).folder,
            proxy=url,
            proxy_login=file if login else None,
            ca_bundle=ca_bundle,
        )

    def examine(self, *, ahead: timedelta = timedelta(), **wishes: Any) -> dict[str, Check]:
        """Return what doctor says of the way to the hub, by name of the check."""
        place = self.federation.place(SITE)
        wished = Wishes(hop_s=2.0, **wishes)
        found = check_way(place, wished, now=lambda: datetime.now(UTC) + ahead)
        return {check.name: check for check in found}
