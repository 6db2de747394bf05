"""What a site does to join a federation: read an invite, make its keys, ask, and take the lists.

Everything works with files that people carry. Where there is a connection, it is a `Transport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hospitium.errors import HubError, StateConflictError, TrustError, UsageError
from hospitium.operations.desks import federations
from hospitium.site.line import keep_line
from hospitium.site.membership import Membership, membership, memberships
from hospitium.site.policy import template
from hospitium.site.record import egress_of
from hospitium.site.settings import Settings
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.wire.enrolments import read_request, sign_request
from hospitium.wire.invites import Invite, read_invite
from hospitium.wire.member_changes import sign_rotation
from hospitium.wire.members import Members, Purpose, parse_list, require_valid

PATIENCE_S = 20.0
"""How long a command at the keyboard tries to reach the coordinator."""

_MAX_FILE_BYTES = 256 << 20


class Transport(Protocol):
    """The connection of a site to its coordinator; ``engines/hub`` has the one over HTTPS."""

    def enrol(self, request: bytes) -> None:
        """Bring an enrolment request; the same bytes again are the same request."""

    def members(self, *, after: int) -> Sequence[bytes]:
        """Return the signed member lists of later epochs, in order."""

    def plans(self) -> Sequence[bytes]:
        """Return the signed plans that are offered to this site."""

    def say(self, statement: bytes) -> None:
        """Bring an approval, a refusal or a withdrawal."""


def join(
    home: Home,
    invite_path: Path,
    *,
    legal_entity: str,
    now: datetime,
    request_out: Path | None = None,
    transport: Transport | None = None,
) -> dict[str, Any]:
    """Make this site's keys and ask to join; the same invite again asks the same.

    Args:
        home: This installation.
        invite_path: The file that the coordinating centre sent.
        legal_entity: The institution's legal name; one place on the list for each.
        now: The time.
        request_out: Where to write the request, to be carried.
        transport: Or the connection that brings it.

    Returns:
        The federation, the site, and the six words to read out on the telephone.

    Raises:
        TrustError: The invite was changed, has expired, or the federation is another one.
        StateConflictError: The site is a member already. Nothing was changed.
    """
    invite = read_invite(read_file(invite_path), now=now)
    place = membership(home.make(), invite.federation)
    if place.has_joined and not place.has_left and place.own_row() is not None:
        raise StateConflictError(
            f"{invite.federation}: this site is a member already. Nothing was changed. If its keys "
            "were lost or seen by others, have it revoked first, then join with a new invite."
        )
    request = _asked(place, invite, legal_entity=legal_entity)
    if request_out is not None:
        egress_of(place).message("enrolment", request)
        durable.write_atomically(request_out, lambda file: str(file.write(request)))
    if transport is not None:
        transport.enrol(request)
    return {
        "federation": invite.federation,
        "site_id": invite.site_id,
        "words": list(read_request(request).words),
        "request": str(request_out or ""),
        "is_sent": transport is not None,
        "policy": str(place.folder / "policy.toml"),
    }


def join_online(
    home: Home,
    invite_path: Path,
    *,
    legal_entity: str,
    now: datetime,
    proxy: str | None = None,
    proxy_login: Path | None = None,
    ca_bundle: Path | None = None,
) -> dict[str, Any]:
    """Ask to join over the connection; asking again does no harm. See `join` and `keep_line`.

    Raises:
        HubError: The coordinator cannot be reached, or refused. Keys and request are kept.
    """
    from hospitium.engines.hub.transport import HubTransport

    found = join(home, invite_path, legal_entity=legal_entity, now=now)
    place = membership(home.folder, found["federation"])
    keep_line(place.folder, proxy=proxy, proxy_login=proxy_login, ca_bundle=ca_bundle)
    with closing(HubTransport(place, patience_s=PATIENCE_S)) as transport:
        transport.enrol(place.request)
    return {**found, "is_sent": True}


def take_members(
    home: Home, federation: str, envelopes: Sequence[bytes], *, now: datetime
) -> dict[str, Any]:
    """Keep new member lists, each verified on the one before it; the ones we have may come too.

    Raises:
        TrustError: One cannot follow, or the newest is out of date.
    """
    place = joined(home, federation)
    newest = _extended(place, envelopes)
    require_valid(newest, now=now)
    return {
        "federation": federation,
        "members_epoch": newest.members_epoch,
        "sites": [site.site_id for site in newest.sites],
        "registered": place.own_row() is not None,
    }


def read_lists(path: Path) -> list[bytes]:
    """Return the signed lists of a file, one on each line."""
    return [line for line in read_file(path).splitlines() if line]


def fetch(home: Home, federation: str, transport: Transport, *, now: datetime) -> dict[str, Any]:
    """Take what is new over a connection: member lists, then plans; bring what was said here.

    A statement that the coordinator refuses is not brought again: ``refused`` has its words.
    """
    place = joined(home, federation)
    current = place.chain.current()
    found = transport.members(after=current.members_epoch if current else 0)
    taken = take_members(home, federation, found, now=now)
    plans = [place.take_plan(envelope).digest for envelope in transport.plans()]
    return {**taken, "plans": plans, "refused": tell(place, transport)}


def tell(place: Membership, transport: Transport) -> list[str]:
    """Bring what was said here and not yet brought; return the words of what was refused."""
    refused = []
    for number, envelope in place.statements.untold():
        try:
            transport.say(envelope)
        except HubError as error:
            if not 400 <= error.status < 500 or error.status in (401, 408, 429):
                raise
            refused.append(f"the coordinator did not take statement {number}: {error}")
        place.statements.mark_told(number)
    return refused


def rotate(home: Home, federation: str, *, purpose: Purpose, out: Path) -> dict[str, Any]:
    """Make a successor of one of this site's keys, and the statement for the coordinator.

    The new key is used once a member list names it.

    Raises:
        TrustError: This site is not on the member list with the keys that are here.
    """
    place = joined(home, federation)
    if place.own_row() is None:
        raise TrustError("members", f"{federation}: this site is no member with its present keys.")
    statement = sign_rotation(
        place.members(),
        site_id=place.settings.site_id,
        purpose=purpose,
        new=place.successor(purpose),
        signing=place.signing_key(),
    )
    egress_of(place).message("rotation", statement)
    durable.write_atomically(out, lambda file: str(file.write(statement)))
    return {"federation": federation, "purpose": purpose, "path": str(out)}


def require_no_centre(home: Home) -> None:
    """Refuse an installation that began federations, for a command about a site.

    Raises:
        UsageError: It is a coordinating centre.
    """
    if federations(home):
        raise UsageError(
            "This installation is a coordinating centre and no site: it asked to join nowhere. "
            "Nothing was done. Commands about a site are given at the site; the centre's own "
            "records are those of its runs: name one with --run."
        )


def joined(home: Home, federation: str | None) -> Membership:
    """Return this site's place in a federation; the only one where none is named.

    Raises:
        UsageError: There is none of this name, or it is not clear which one is meant.
    """
    known = {place.settings.federation: place for place in memberships(home.folder)}
    if federation is None and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        require_no_centre(home)
    if federation is None or federation not in known:
        raise UsageError(
            f"Which federation? This site ({home.folder}) asked to join: "
            f"{', '.join(known) or 'none yet'}. Nothing was done. Name one with --federation, or "
            "begin with `hospitium site join INVITE`; if it has joined, HOSPITIUM_HOME or --home "
            "must name its folder."
        )
    return known[federation]


def _asked(place: Membership, invite: Invite, *, legal_entity: str) -> bytes:
    """Return this site's request under an invite; keys and request are made once."""
    if place.has_joined and read_request(place.request).token_key == invite.token_key:
        return place.request
    place.chain.plant(
        federation=invite.federation, officers=invite.officers, threshold=invite.threshold
    )
    name = invite.token_key[:16]
    signing, key = place.make_keys(name, federation=invite.federation)
    request = sign_request(invite, legal_entity=legal_entity, signing=signing, request=key)
    settings = Settings(
        federation=invite.federation,
        site_id=invite.site_id,
        legal_entity=legal_entity,
        addresses=invite.addresses,
        tls_ca_sha256=invite.tls_ca_sha256,
        coordinator_key=invite.coordinator_key,
        members_epoch=invite.members_epoch,
        keys=name,
    )
    place.keep_settings(settings, request, tls_ca=invite.tls_ca)
    if not (place.folder / "policy.toml").exists():
        text = template().encode()
        durable.write_atomically(place.folder / "policy.toml", lambda file: str(file.write(text)))
    return request


def _extended(place: Membership, envelopes: Sequence[bytes]) -> Members:
    """Return the newest list after these; those before ours are passed over if newer ones come.

    Older ones alone are refused: somebody plays an old list back.
    """
    current = place.chain.current()
    least = current.members_epoch if current else place.settings.members_epoch
    epochs = {envelope: parse_list(envelope).members_epoch for envelope in envelopes}
    newest = [envelope for envelope in envelopes if epochs[envelope] >= least]
    place.chain.extend(newest or envelopes[-1:])
    place.adopt_successors()
    return place.members()


def read_file(path: Path) -> bytes:
    """Return what a person carried here, up to a bound.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path}: it cannot be read ({error.strerror}). Nothing was done. Look at the name and "
            "the access rights."
        ) from error
