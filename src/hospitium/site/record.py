"""Where a membership's record of what left is, and the way out that writes it."""

from __future__ import annotations

from pathlib import Path

from hospitium.site.departures import LOG, Departures
from hospitium.site.egress import Egress
from hospitium.site.leaving import Answering
from hospitium.site.membership import Membership
from hospitium.state.leaf_log import Signer
from hospitium.wire.checkpoints import LOCAL, site_origin
from hospitium.wire.signing import SigningKey


def departures_of(place: Membership) -> Departures:
    """Return the record of what left for a federation; its signing key signs each entry."""
    settings = place.settings
    origin = site_origin(settings.federation, settings.site_id)
    return Departures(place.folder / LOG, signer=Signer(origin=origin, key=place.signing_key))


def egress_of(place: Membership, *, instead: Answering | None = None) -> Egress:
    """Return the way out to the coordinator of a federation; ``instead`` is for a dry run."""
    destination = place.settings.addresses[0]
    return Egress(departures_of(place), destination=destination, instead=instead)


def local_egress(folder: Path, *, site_id: str, key: SigningKey, destination: str) -> Egress:
    """Return the way out of a site that belongs to no federation, with the record in a folder."""
    signer = Signer(origin=site_origin(LOCAL, site_id), key=lambda: key)
    return Egress(Departures(folder / LOG, signer=signer), destination=destination)
