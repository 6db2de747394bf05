"""How a site reaches its hub: addresses, a proxy, and whose certificates are trusted."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import getproxies

import httpx

from hospitium.errors import UsageError
from hospitium.state.unfinished import CHUNK_BYTES


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a site reaches the hub.

    Attributes:
        url: ``https://host[:port]``, with the federation as its path where the hub has several.
        others: Further addresses of the same hub; the next one is tried when one gives no answer.
        ca_file: Certificates that are trusted beside the system's, as that of the invite.
        more_ca: Further ones, as that of a proxy that opens TLS.
        proxy: ``http://[user:password@]host:port``; None takes ``HTTPS_PROXY``, if it is set.
        chunk_bytes: Size of the pieces of an upload; smaller ones suit slow lines.
        timeout_s: Silence after which a request is given up and made again.
        longest_pause_s: Between two tries.
        patience_s: How long a call is tried before it ends with "unreachable"; without end, if
            nothing is said.
    """

    url: str
    others: tuple[str, ...] = ()
    ca_file: Path | None = None
    more_ca: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    chunk_bytes: int = CHUNK_BYTES
    timeout_s: float = 30.0
    longest_pause_s: float = 30.0
    patience_s: float = math.inf


def trusted(connection: Connection) -> ssl.SSLContext:
    """Return whom the site trusts for TLS: the system's authorities and those that were named.

    Raises:
        UsageError: A file of certificates cannot be read.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # proxies' own certificates are often plain
    for path in (connection.ca_file, connection.more_ca):
        if path is None:
            continue
        try:
            context.load_verify_locations(cafile=str(path))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path}: there are no certificates in PEM to be read ({error}). Nothing was sent. "
                "The site's IT: give the file of the authority with --ca-bundle."
            ) from error
    return context


def open_http(connection: Connection) -> httpx.Client:
    """Return the connection's HTTP client; nothing is sent yet.

    Raises:
        UsageError: The proxy's address or a file of certificates cannot be used.
    """
    context = trusted(connection)
    try:
        return httpx.Client(
            base_url=connection.url,
            verify=context,
            proxy=connection.proxy,
            timeout=connection.timeout_s,
            follow_redirects=False,
            headers={"accept-encoding": "identity"},
        )
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(
            "The address of the proxy cannot be used; expected http://host:port. Nothing was sent. "
            "The site's IT: give it with --proxy, or in HTTPS_PROXY."
        ) from error


def is_behind_proxy(connection: Connection) -> bool:
    """Whether requests go through a proxy: of the settings, or of the environment."""
    return bool(connection.proxy or {"https", "all"} & getproxies().keys())
