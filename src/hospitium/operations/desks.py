"""The federations that this installation coordinates, and the key that speaks for each."""

from __future__ import annotations

from hospitium.errors import UsageError
from hospitium.site.keys import read_key
from hospitium.state.desk import Desk
from hospitium.state.home import Home
from hospitium.wire.signing import SigningKey


def existing(home: Home, federation: str) -> Desk:
    """Return the desk of a federation that this installation coordinates.

    Raises:
        UsageError: It coordinates none of this name; those it does are listed.
    """
    known = federations(home)
    if federation not in known:
        raise UsageError(
            f"This installation does not coordinate {federation!r}. Nothing was done. It "
            f"coordinates: {', '.join(known) or 'nothing yet'}. Begin one with `hospitium "
            "coordinator init`."
        )
    return desk_of(home, federation)


def only_federation(home: Home) -> str:
    """Return the federation that is meant when none is named.

    Raises:
        UsageError: There are none or several.
    """
    known = federations(home)
    if len(known) != 1:
        raise UsageError(
            f"Which federation? This installation coordinates {', '.join(known) or 'none yet'}. "
            "Nothing was done. Name one with --federation, or begin one with `hospitium "
            "coordinator init`."
        )
    return known[0]


def federations(home: Home) -> list[str]:
    """Return the federations that this installation coordinates, sorted."""
    paths = (home.folder / "coordinator").glob("*/settings.json")
    return sorted(path.parent.name for path in paths)


def coordinator_key(desk: Desk) -> SigningKey:
    """Return the coordinator's signing key of a federation."""
    path = desk.folder / "keys" / "coordinator.key"
    return read_key(path, purpose="coordinator-signing", federation=desk.folder.name)


def desk_of(home: Home, federation: str) -> Desk:
    """Return the desk of a federation, begun or not."""
    return Desk(home.folder / "coordinator" / federation)
