"""A membership's connection to its coordinator: lists, plans, statements and heartbeats."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.client import Connection, HubClient
from hospitium.engines.hub.messages import Receipt
from hospitium.engines.hub.pace import Pace
from hospitium.errors import TrustError
from hospitium.site.egress import Egress
from hospitium.site.line import read_line
from hospitium.site.membership import TLS_CA, Membership
from hospitium.site.record import egress_of
from hospitium.state.unfinished import CHUNK_BYTES
from hospitium.wire.approvals import kind_said
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey, VerifyKey, dsse_payload

WORK = "work"
"""Where a membership's agent has its state, in the membership's folder."""

SLOW_MBIT_PER_S = 5.0
SLOW_CHUNK_BYTES = 256 << 10
"""On a slow line a chunk is smaller, so that less is sent again when it breaks."""


def connection_of(
    place: Membership, *, patience_s: float = math.inf, mbit_per_s: float = 0.0
) -> Connection:
    """Return how a membership's coordinator is reached: by its invite, and what was said here.

    Args:
        place: The membership.
        patience_s: How long a call is tried.
        mbit_per_s: What the site's policy allows of the line; 0 is no limit.
    """
    settings, line = place.settings, read_line(place.folder)
    urls = [f"{address.rstrip('/')}/{settings.federation}" for address in settings.addresses]
    tls_ca = place.folder / TLS_CA
    return Connection(
        url=urls[0],
        others=tuple(urls[1:]),
        ca_file=tls_ca if tls_ca.is_file() else None,
        more_ca=place.folder / line.ca_bundle if line.ca_bundle else None,
        proxy=line.proxy or None,
        chunk_bytes=SLOW_CHUNK_BYTES if 0 < mbit_per_s < SLOW_MBIT_PER_S else CHUNK_BYTES,
        patience_s=patience_s,
    )


class HubTransport:
    """Speaks for one membership; see `hospitium.operations.enrolment.Transport`.

    Attributes:
        key: The public half of the key with which it asks.

    Args:
        place: The membership; its keys are those that are on disk now.
        key: The request key, where it is another than the one in use.
        patience_s: How long a call is tried before it ends with ``unreachable``.
        stop: Ends every wait.
        log: Told why a request is made again.
        pace: How fast the line may be used.
        egress: The way out, with the record of what left; None: the membership's.
    """

    def __init__(
        self,
        place: Membership,
        *,
        key: SigningKey | None = None,
        patience_s: float = math.inf,
        stop: threading.Event | None = None,
        log: Callable[[str], None] = lambda text: None,
        pace: Pace | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._place = place
        self._egress = egress or egress_of(place)
        key = key or place.request_key()
        self.key = key.public
        self._client = HubClient(
            connection_of(place, patience_s=patience_s),
            key=key,
            stop=stop,
            log=log,
            pace=pace,
        )

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._client.close()

    def interrupt(self) -> None:
        """End the wait of another thread."""
        self._client.interrupt()

    def enrol(self, request: bytes) -> None:
        """Bring an enrolment request; the same bytes again are the same request.

        Raises:
            TrustError: Something answered that another request came in (``identity``).
        """
        if self._egress.enrol(request, self._client) != digest(dsse_payload(request)):
            raise TrustError(
                "identity",
                "The coordinator says that it has another enrolment request than the one that was "
                "sent. Compare the six words on the telephone before anything else.",
            )

    def members(self, *, after: int) -> Sequence[bytes]:
        """Return the signed member lists of later epochs, in order."""
        return self._client.members(after=after)

    def plans(self) -> Sequence[bytes]:
        """Return the signed plans that are offered to this site."""
        return self._client.plans()

    def say(self, statement: bytes) -> None:
        """Bring an approval, a refusal or a withdrawal; returns when the coordinator signed for it.

        Raises:
            UpdateError: What came back is not the coordinator's receipt for it.
        """
        self._egress.say(
            kind_said(statement),
            statement,
            self._client,
            plan_digest=json.loads(dsse_payload(statement))["plan_digest"],
            require=self._require_receipt,
        )

    def beat(self, beat: Beat) -> dict[str, Any]:
        """Say how this site is; return ``time`` and ``standing``, what the coordinator thinks."""
        return self._egress.beat(beat.encoded(), self._client)

    def _require_receipt(self, receipt: bytes, statement: bytes) -> None:
        key = VerifyKey.from_hex(self._place.members().coordinator_keys[0])
        site_id = self._place.settings.site_id
        Receipt.opened(receipt, key=key, site_id=site_id, statement=statement)
