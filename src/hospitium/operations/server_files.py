"""The files of the coordinator's server: its own authority and certificate, or those it was given.

One server serves all federations of an installation. Private keys are readable by this user alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hospitium.errors import TrustError, UsageError
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.wire.canonical import canonical_json
from hospitium.wire.certificates import (
    Issued,
    is_good,
    make_authority,
    make_server_certificate,
    read_issued,
    tidied,
)

AUTHORITY_NAME = "Hospitium coordinator"


def authority_of(home: Home, *, now: datetime) -> str:
    """Return the certificate of this installation's own authority; it is made the first time."""
    return tidied(_authority(home, now=now).certificate)


def use_certificate(home: Home, certificate: Path, key: Path) -> None:
    """Serve with a certificate of one's own from now on.

    Raises:
        UsageError: A file cannot be read, or the first holds no certificate.
    """
    try:
        tidied(certificate.read_bytes())
        key.read_bytes()
    except (OSError, TrustError) as error:
        raise UsageError(
            f"{certificate}, {key}: the server needs a certificate and its key in PEM form, and "
            "this user must be able to read both. Nothing was made."
        ) from error
    given = {"certificate": str(certificate.resolve()), "key": str(key.resolve())}
    path = _folder(home) / "given.json"
    durable.write_atomically(path, lambda file: str(file.write(canonical_json(given))))


def require_one_ca(
    tls_ca: Path | None, *, is_public_ca: bool, server: tuple[Path, Path] | None
) -> None:
    """Refuse what leaves open, or says twice, whose certificates sites are to trust."""
    if tls_ca and is_public_ca:
        raise UsageError(
            "Sites are to trust either the CA of --tls-ca or a public one. Nothing was made. Give "
            "one of --tls-ca and --public-ca."
        )
    if server is not None and not (tls_ca or is_public_ca):
        raise UsageError(
            "A certificate of your own was given, and no word on who signed it. Nothing was made. "
            "Give the certificate of that CA with --tls-ca, or --public-ca if everybody trusts it."
        )


def server_files(home: Home, addresses: Sequence[str], *, now: datetime) -> tuple[Path, Path]:
    """Return the files of the server's certificate and of its key, for these addresses.

    The one that was given, or one of the own authority: made anew where it is old, or where its
    hosts are not those of the addresses.
    """
    given = _folder(home) / "given.json"
    if given.is_file():
        named = json.loads(given.read_bytes())
        return Path(named["certificate"]), Path(named["key"])
    authority = _authority(home, now=now)
    path = _folder(home) / "server.pem"
    if not path.is_file() or not is_good(
        path.read_bytes(), addresses, authority=authority.certificate, now=now
    ):
        durable.delete(path)
        durable.write_once(path, make_server_certificate(authority, addresses, now=now).both)
    return path, path


def _authority(home: Home, *, now: datetime) -> Issued:
    path = _folder(home) / "authority.pem"
    if not path.is_file():
        durable.write_once(path, make_authority(AUTHORITY_NAME, now=now).both)
    return read_issued(path.read_bytes())


def serving_folder(home: Home) -> Path:
    """Return the server's folder, whose lock says that an installation is served.

    Its name is none that a federation may have.
    """
    return home.folder / "coordinator" / "_server"


def _folder(home: Home) -> Path:
    return durable.make_folder(serving_folder(home))
