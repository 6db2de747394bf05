"""Where the hub of a federation keeps what is on its way: in a folder, or in a NATS cluster.

A file ``nats.toml`` in the federation's folder names the cluster; without it, the hub keeps all in
the folder ``hub`` beside it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hospitium.engines.hub.backend import Backend, open_backend
from hospitium.engines.hub.nats_settings import NatsSettings, read_user_key
from hospitium.errors import UsageError
from hospitium.state.desk import Desk

FILE = "nats.toml"
FOLDER = "hub"


def backend_of(desk: Desk, *, folder: str = FOLDER) -> Backend:
    """Open the backend of a federation's hub.

    Args:
        desk: The federation's.
        folder: Name of the folder beside the file, for what this process keeps on disk.

    Raises:
        UsageError: ``nats.toml`` cannot be used.
        KeyFileError: The user key that it names cannot.
        EngineError: The cluster cannot serve this hub, or its client is not installed.
        HubError: The cluster was away for too long.
    """
    if not has_cluster(desk):
        return open_backend("local", desk.folder / folder)
    return open_backend("nats", desk.folder / folder, nats=_settings(desk.folder / FILE))


def has_cluster(desk: Desk) -> bool:
    """Whether several processes may serve this federation."""
    return (desk.folder / FILE).is_file()


def _settings(path: Path) -> NatsSettings:
    """Read the file; every key is known, and paths are seen from its folder."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(path, f"it cannot be read: {error}") from error
    wrong = sorted(key for key, value in found.items() if not _KEYS.get(key, _is_never)(value))
    if wrong or not found.get("urls"):
        named = f"{', '.join(wrong)} found" if wrong else "urls missing"
        raise _unusable(path, named)
    settings = NatsSettings(urls=tuple(found["urls"]), name=path.parent.name)
    if "max_gb" in found:
        settings = replace(settings, max_bytes=int(found["max_gb"] * (1 << 30)))
    if "ca_file" in found:
        settings = replace(settings, ca_file=path.parent / found["ca_file"])
    if "key_file" in found:
        settings = replace(settings, key=read_user_key(path.parent / found["key_file"]))
    return settings


def _is_urls(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(url, str) and "://" in url for url in value)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_never(value: object) -> bool:
    return False


_KEYS: Mapping[str, Callable[[object], bool]] = {
    "urls": _is_urls,
    "ca_file": _is_path,
    "key_file": _is_path,
    "max_gb": _is_size,
}


def _unusable(path: Path, found: str) -> UsageError:
    return UsageError(
        f"{path}: {found}; expected urls (every server of the cluster, tls://host:4222), and where "
        "needed ca_file, key_file, max_gb. Nothing was started. Whoever runs the hub: put the file "
        "in order as in docs/how-to/run-a-nats-cluster.md, then start again."
    )
