"""How a hub reaches its NATS cluster, and what it asks of it; nothing here imports the client."""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hospitium.errors import EngineError, KeyFileError
from hospitium.wire.signing import SigningKey

MIN_PAYLOAD_BYTES = 5 << 20
"""A chunk of 4 MiB, and a signed statement of 2 MiB in base64, must pass in one message."""

FLOORS = ((2, 12, 12), (2, 14, 3))
"""Oldest versions that may serve: of the line 2.12, and of all lines after it."""

_USER = 20 << 3
_USER_PREFIX = bytes([_USER])
_SEED_PREFIX = bytes([18 << 3 | _USER >> 5, (_USER & 31) << 3])


@dataclass(frozen=True, kw_only=True)
class NatsSettings:
    """One cluster, and this federation's part of it.

    Attributes:
        urls: ``tls://host:4222`` of every server; their number says how often everything is stored.
        name: The federation; all names in the cluster begin with it, so that several may share it.
        ca_file: Certificates that are trusted; None for the system's.
        key: The user key (NKey) that the cluster knows this hub by; None where it asks for none.
        max_bytes: What one server may store for this federation; beyond it uploads are put off.
        request_s: How long a site's request waits for a cluster that is away.
        patience_s: How long the coordinator's own calls wait for it.
    """

    urls: tuple[str, ...]
    name: str = "hospitium"
    ca_file: Path | None = None
    key: SigningKey | None = None
    max_bytes: int = 16 << 30
    request_s: float = 20.0
    patience_s: float = 600.0

    @property
    def replicas(self) -> int:
        """How many servers hold each message."""
        return min(3, len(self.urls))


def require_version(found: str) -> None:
    """Refuse a server with known ways to lose what it acknowledged.

    Raises:
        EngineError: It is too old, or says no version.
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", found)
    version = tuple(map(int, match.groups())) if match else (0, 0, 0)
    if version < (FLOORS[0] if version[:2] == FLOORS[0][:2] else FLOORS[1]):
        floors = " or ".join(f"{'.'.join(map(str, floor))} and later" for floor in FLOORS)
        raise EngineError(
            f"A server of the NATS cluster is version {found}; expected {floors} (2.13 is too "
            "old). Nothing was stored there. Whoever runs the cluster: update it, then start again."
        )


def user_name(key: SigningKey) -> str:
    """Return the public NKey that the cluster's configuration names (``U...``)."""
    return _encoded(_USER_PREFIX + key.public.to_bytes())


def seed_text(key: SigningKey) -> str:
    """Return a user key as the tools of NATS write it to a file (``SU...``)."""
    return _encoded(_SEED_PREFIX + key.to_bytes())


def read_user_key(path: Path) -> SigningKey:
    """Read a user key from a file that holds ``SU...``, readable by this user alone.

    Raises:
        KeyFileError: It is missing, open to others, or holds something else.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        is_open = os.name != "nt" and path.stat().st_mode & 0o077 != 0
    except (OSError, ValueError) as error:
        raise KeyFileError(_words(path, "cannot be read")) from error
    if is_open:
        raise KeyFileError(_words(path, "can be read by other users: allow its owner alone (0600)"))
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 36 or data[:2] != _SEED_PREFIX or _encoded(data[:-2]) != text:
        raise KeyFileError(_words(path, "holds no user seed (SU...)"))
    return SigningKey.from_bytes(data[2:-2])


def _words(path: Path, found: str) -> str:
    return (
        f"{path.name}: the hub's key for the NATS cluster {found}. Nothing was started. "
        "Whoever runs the hub: put the file in order, then start again."
    )


def _encoded(data: bytes) -> str:
    """Return bytes with their CRC-16 (XMODEM) as base32 without padding, as NKeys are written."""
    return (
        base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little"))
        .decode()
        .rstrip("=")
    )
