"""Who a site is in a federation: what the invite said, on disk; no secrets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hospitium.errors import StateConflictError
from hospitium.state import durable
from hospitium.wire.canonical import canonical_json

SETTINGS = "settings.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Who this site is in a federation, and how it reaches the coordinator; no secrets.

    ``members_epoch`` is that of the invite: an older list is never the first one here. ``keys`` is
    the name of the folder with the keys of this enrolment.
    """

    federation: str
    site_id: str
    legal_entity: str
    addresses: tuple[str, ...]
    tls_ca_sha256: str
    coordinator_key: str
    members_epoch: int
    keys: str


def read_settings(folder: Path) -> Settings:
    """Return who this site is, from a federation's folder.

    Raises:
        StateConflictError: The site never asked to join.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise StateConflictError(
            f"{folder.name}: this site has not asked to join it. Nothing was done. "
            "Begin with `hospitium site join INVITE`."
        )
    fields = json.loads(path.read_bytes())
    return Settings(**{**fields, "addresses": tuple(fields["addresses"])})


def write_settings(folder: Path, settings: Settings) -> None:
    """Write down who this site is."""
    data = canonical_json({**asdict(settings), "addresses": list(settings.addresses)})
    durable.write_atomically(folder / SETTINGS, lambda file: str(file.write(data)))
