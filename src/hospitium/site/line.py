"""How a site reaches one coordinator: addresses of the invite, a proxy, and whom it trusts for TLS.

What was said may hold the login of a proxy: only this user can read it, it lies with the keys, and
it is never printed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from hospitium.errors import CorruptedError, UsageError
from hospitium.state import durable
from hospitium.wire.canonical import canonical_json

_FILE = "line.json"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a person said about the way to the coordinator.

    Attributes:
        proxy: ``http://[user:password@]host:port``; "" takes ``HTTPS_PROXY``, if that is set.
        ca_bundle: Name of a file in the membership's folder with certificates that are trusted too,
            as that of a proxy that opens TLS; "" for none.
    """

    proxy: str = field(default="", repr=False)
    ca_bundle: str = ""

    @property
    def proxy_shown(self) -> str:
        """The proxy without its login."""
        parts = urlsplit(self.proxy)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def read_line(folder: Path) -> Line:
    """Return what was said about the way to the coordinator; nothing said is no proxy.

    Raises:
        CorruptedError: The file was damaged.
    """
    path = folder / "keys" / _FILE
    if not path.is_file():
        return Line()
    try:
        return Line(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise CorruptedError(
            f"{path}: it cannot be read. Nothing was sent. Delete it, and say once more with "
            "`hospitium site up --proxy URL` how the coordinator is reached."
        ) from error


def keep_line(
    folder: Path,
    *,
    proxy: str | None = None,
    proxy_login: Path | None = None,
    ca_bundle: Path | None = None,
) -> Line:
    """Change what is given and keep it in a membership's folder; the rest stays as it was.

    Args:
        folder: The federation's folder at this site.
        proxy: ``http://host:port``; "" for none of our own.
        proxy_login: File with one line, ``user:password``, for the proxy.
        ca_bundle: PEM file with further certificates that are trusted; it is copied.

    Raises:
        UsageError: The address is none, or a file cannot be read. Nothing was changed.
    """
    line = read_line(folder)
    address = line.proxy if proxy is None else proxy
    if proxy or proxy_login:
        address = _proxy(address, login=proxy_login)
    bundle = _read(ca_bundle) if ca_bundle is not None else b""
    if ca_bundle is not None and b"-----BEGIN CERTIFICATE-----" not in bundle:
        raise UsageError(f"{ca_bundle}: there is no certificate in PEM. Nothing was changed.")
    line = Line(proxy=address, ca_bundle="ca-bundle.pem" if bundle else line.ca_bundle)
    place = folder / "keys"
    with durable.storage_errors(place):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if bundle:
        durable.write_atomically(folder / line.ca_bundle, lambda file: str(file.write(bundle)))
    data = canonical_json(asdict(line))
    durable.write_atomically(place / _FILE, lambda file: _write_private(file, data))
    return line


def _proxy(address: str, *, login: Path | None) -> str:
    """Return a proxy's address, with the login of a file in it."""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(
            "The address of the proxy cannot be used; expected http://host:port. Nothing was "
            "changed. Ask the site's IT for it."
        )
    if login is None:
        return address
    user, separator, password = _read(login).decode("utf-8", "replace").strip().partition(":")
    if not separator:
        raise UsageError(f"{login}: expected one line, user:password. Nothing was changed.")
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"
    return urlunsplit(parts._replace(netloc=netloc))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: it cannot be read ({error.strerror}). Nothing was changed."
        ) from error


def _write_private(file: BinaryIO, data: bytes) -> str:
    """Write what nobody else may read."""
    if hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), 0o600)
    return str(file.write(data))
