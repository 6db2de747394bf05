"""The way from a site to its hub, as ``hospitium doctor`` looks at it: hop by hop, then the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hospitium.engines.hub.connection import Connection, trusted
from hospitium.engines.hub.probes import HubProbe, pinned_to
from hospitium.engines.hub.transport import connection_of
from hospitium.errors import HospitiumError
from hospitium.operations import doctor_hub, doctor_network, doctor_site
from hospitium.operations.doctor_checks import ENGINEER, Check, completed, failed, passed
from hospitium.operations.doctor_hops import HOP_S, place_of
from hospitium.operations.doctor_tls import Way
from hospitium.operations.enrolment import read_file
from hospitium.site.membership import Membership
from hospitium.wire.invites import read_invite
from hospitium.wire.signing import SigningKey

NETWORK = (*doctor_network.HOPS, *doctor_hub.ASKS)
"""The checks of the way to a hub, in their order."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is to be looked at beside the usual.

    Attributes:
        federation: Only this one; None for all.
        is_long: Wait as long as the agent does, and watch an unused connection.
        gpu: Load torch and ask for the GPU.
        pacs: Settings of PACS to ask.
        invite: An invite that was not used yet: whether its coordinator can be reached.
        hop_s: Seconds that a hop may take.
        idle_s: How long an unused connection is watched, with ``is_long``.
    """

    federation: str | None = None
    is_long: bool = False
    gpu: bool = False
    pacs: Sequence[Path] = ()
    invite: Path | None = None
    hop_s: float = HOP_S
    idle_s: float = doctor_hub.IDLE_S


def check_way(place: Membership, wishes: Wishes, *, now: Callable[[], datetime]) -> list[Check]:
    """Return the checks of the way to a membership's hub, those that were not made included."""
    try:
        connection = connection_of(place, mbit_per_s=_mbit_per_s(place))
        way = _way(connection, wishes)
        signing, request = place.signing_key(), place.request_key()
    except HospitiumError as error:
        check = failed("connection", str(error), remedy="As it says.", who=ENGINEER)
        return completed([check], NETWORK)
    keys = {"request_key": request, "signing_key": signing}

    def ask(probe: HubProbe) -> Iterator[Check]:
        asking = doctor_hub.Asking(
            way=way,
            probe=probe,
            keys={name: doctor_hub.key_digest(key.public.hex()) for name, key in keys.items()},
            is_listed=doctor_site.is_listed(place),
            chunk_bytes=connection.chunk_bytes,
            now=now,
            poll_s=doctor_hub.LONG_POLL_S if wishes.is_long else doctor_hub.SHORT_POLL_S,
            idle_s=wishes.idle_s if wishes.is_long else 0.0,
        )
        return doctor_hub.check_hub(asking)

    return completed(_checks(way, request, ask), NETWORK)


def check_invite(path: Path, wishes: Wishes, *, now: Callable[[], datetime]) -> list[Check]:
    """Return the checks of the way to the coordinator of an invite; it is not used up.

    Raises:
        TrustError: The invite was changed, or is past its time.
    """
    invite = read_invite(read_file(path), now=now())
    named = f"{invite.site_id} in {invite.federation}, good until {invite.expires}"
    with tempfile.TemporaryDirectory() as folder:
        authority = Path(folder) / "ca.pem"
        authority.write_text(invite.tls_ca, encoding="ascii")
        connection = Connection(
            url=f"{invite.addresses[0].rstrip('/')}/{invite.federation}",
            ca_file=authority if invite.tls_ca else None,
        )
        way = _way(connection, wishes)

    def ask(probe: HubProbe) -> Iterator[Check]:
        return doctor_hub.check_answer(way, probe, now=now)

    names = (*doctor_network.HOPS, "hub", "clock")
    checks = completed(_checks(way, SigningKey.generate(), ask), names)
    return [passed("invite", named), *checks]


def _mbit_per_s(place: Membership) -> float:
    """Return what the site's policy allows of the line: a slow one has smaller pieces."""
    with suppress(HospitiumError):
        return place.policy().limits.mbit_per_s
    return 0.0


def _checks(
    way: Way, key: SigningKey, ask: Callable[[HubProbe], Iterator[Check]]
) -> Iterator[Check]:
    """Yield the hops, then what the hub says; nothing more after the first hop that fails."""
    for check in doctor_network.check_hops(way):
        yield check
        if check.status == "FAIL":
            return
    proxy = doctor_network.proxy_address(way)
    with closing(HubProbe(way.url, trust=way.in_use, proxy=proxy, key=key)) as probe:
        yield from ask(probe)


def _way(connection: Connection, wishes: Wishes) -> Way:
    return Way(
        to=place_of(connection.url),
        url=connection.url,
        proxy_setting=connection.proxy or "",
        pinned=pinned_to(connection.ca_file),
        in_use=trusted(connection),
        hop_s=wishes.hop_s,
    )
