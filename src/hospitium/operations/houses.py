"""The hubs of an installation: one for each federation, behind one server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.front import Front
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.refusals import RECORD, Refusals
from hospitium.engines.hub.server import HubServer, Tls
from hospitium.errors import EngineError
from hospitium.operations.desks import coordinator_key, desk_of, federations
from hospitium.operations.hub_storage import FOLDER, backend_of
from hospitium.operations.progress import Say
from hospitium.operations.server_files import server_files
from hospitium.state.desk import Desk
from hospitium.state.home import Home
from hospitium.wire.signing import SigningKey


@dataclass(frozen=True, kw_only=True)
class House:
    """What one federation needs while it is served."""

    desk: Desk
    backend: Backend
    key: SigningKey
    hub: Hub


class Houses:
    """Every federation of an installation, as they come.

    Args:
        home: This installation.
        say: Told what people at the centre may wait for.
        folder: Name of the folder in which each hub keeps what is its own.
        serves: Which federations are served.
    """

    def __init__(
        self,
        home: Home,
        *,
        say: Say,
        folder: str = FOLDER,
        serves: Callable[[Desk], bool] = lambda desk: True,
    ) -> None:
        self._home = home
        self._say = say
        self._folder = folder
        self._serves = serves
        self.found: dict[str, House] = {}
        self.hubs: dict[str, Hub] = {}

    def look(self) -> None:
        """Open the hub of every federation that is new."""
        for name in federations(self._home):
            desk = desk_of(self._home, name)
            if name not in self.found and self._serves(desk):
                backend = backend_of(desk, folder=self._folder)
                key, office = coordinator_key(desk), Office(desk, tell=self._tell)
                refusals = Refusals(desk.folder / RECORD)
                hub = Hub(
                    backend, members=office.members, key=key, office=office, refusals=refusals
                )
                self.found[name] = House(desk=desk, backend=backend, key=key, hub=hub)
                self.hubs[name] = hub

    def _tell(self, text: str) -> None:
        self._say({"kind": "news", "text": text})

    def addresses(self) -> list[str]:
        """Return every address under which sites reach this installation, each once."""
        settings = (house.desk.folder / "settings.json" for house in self.found.values())
        each = (json.loads(path.read_bytes())["addresses"] for path in settings)
        return list(dict.fromkeys(address for addresses in each for address in addresses))

    def close(self) -> None:
        """Let go of what is stored; it stays."""
        for house in self.found.values():
            house.backend.close()


def server_of(home: Home, houses: Houses, *, host: str, port: int | None) -> HubServer:
    """Return the server of these hubs, listening at a port; None takes that of the first address.

    Raises:
        EngineError: It cannot listen there.
    """
    if port is None:
        port = urlsplit(houses.addresses()[0]).port or 443
    certificate, key = server_files(home, houses.addresses(), now=datetime.now(UTC))
    try:
        tls = Tls(certificate=certificate, key=key)
        return HubServer(Front(houses.hubs), tls=tls, host=host, port=port)
    except OSError as error:
        raise EngineError(
            f"Port {port}: the server cannot listen there ({error.strerror or error}). Nothing was "
            "started. Choose another port with --port, or give this user the right to use it."
        ) from error
