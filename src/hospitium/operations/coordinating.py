"""What the coordinating centre does: begin a federation, invite, admit, revoke, list sites."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hospitium.errors import StateConflictError, TrustError, UsageError
from hospitium.operations.desks import coordinator_key, desk_of, existing
from hospitium.operations.enrolment import read_file
from hospitium.operations.member_lists import officer_key_of, officers, publish, settle
from hospitium.operations.server_files import authority_of, require_one_ca, use_certificate
from hospitium.site.keys import make_key, read_key
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.wire import member_changes as changes
from hospitium.wire import members as lists
from hospitium.wire.canonical import canonical_json
from hospitium.wire.certificates import fingerprint, tidied
from hospitium.wire.enrolments import require_words
from hospitium.wire.invites import PUBLIC_CA, new_invite, ticket_of, write_invite
from hospitium.wire.signing import SigningKey, dsse_merge
from hospitium.wire.statement import is_id

VALIDITY = timedelta(days=365)
"""How long a member list is good for; the officers sign a new one before."""


def begin_federation(
    home: Home,
    federation: str,
    *,
    addresses: Sequence[str],
    now: datetime,
    tls_ca: Path | None = None,
    is_public_ca: bool = False,
    server: tuple[Path, Path] | None = None,
    min_sites: int = 2,
    officer_key: Path | None = None,
) -> dict[str, Any]:
    """Make the coordinator's and one officer's key and sign the first member list.

    Args:
        home: This installation.
        federation: Its name: small letters, digits and dashes.
        addresses: HTTPS addresses under which sites reach the coordinator.
        now: The time.
        tls_ca: Certificate (PEM) of a CA of your own, which sites are to trust.
        is_public_ca: Sites reach a server whose certificate is from a CA that everybody trusts.
            Without either, this installation makes its own authority.
        server: Certificate of the server and its key, both in PEM; None: one of that authority.
        min_sites: Fewest sites of any round.
        officer_key: Where the officer's key is to be, best on a stick; None: beside the other.

    Raises:
        StateConflictError: The federation exists. Nothing was changed.
    """
    if not is_id(federation):
        raise UsageError(
            f"{federation!r} cannot name a federation: expected 1 to 40 small letters, digits and "
            "dashes. Nothing was made."
        )
    require_one_ca(tls_ca, is_public_ca=is_public_ca, server=server)
    desk = desk_of(home, federation)
    if desk.chain.envelopes():
        raise StateConflictError(f"{federation}: the federation exists. Nothing was changed.")
    home.make()
    authority = _authority(tls_ca) if tls_ca else PUBLIC_CA
    if server is not None:
        use_certificate(home, *server)
    if not (authority or is_public_ca):
        authority = authority_of(home, now=now)
    key_path = officer_key or officer_key_of(desk)
    coordinator = _key(desk.folder / "keys" / "coordinator.key", "coordinator-signing", federation)
    officer = _key(key_path, "officer", federation)
    first = changes.first_list(
        federation=federation,
        officers=[officer.public.hex()],
        threshold=1,
        coordinator_key=coordinator.public.hex(),
        min_sites=min_sites,
        valid_until=now + VALIDITY,
    )
    settings = canonical_json({"addresses": list(addresses), "tls_ca": authority})
    durable.write_atomically(desk.folder / "settings.json", lambda file: str(file.write(settings)))
    desk.chain.plant(federation=federation, officers=first.officers, threshold=1)
    desk.chain.extend([lists.sign_members(first, officer)])
    return {
        "federation": federation,
        "members_epoch": 1,
        "officer_key": str(key_path),
        "coordinator_key_id": coordinator.public.key_id,
        "tls_ca_sha256": fingerprint(authority) if authority else PUBLIC_CA,
        "addresses": list(addresses),
    }


def invite_site(
    home: Home, federation: str, site_id: str, *, out: Path, now: datetime
) -> dict[str, Any]:
    """Write an invite file for a site; it is a secret for 48 hours, then nothing.

    Raises:
        StateConflictError: The file exists. Nothing was made.
        TrustError: The name is none that a site may have.
    """
    desk = existing(home, federation)
    settings = json.loads((desk.folder / "settings.json").read_bytes())
    members = desk.members()
    invite = new_invite(members, site_id=site_id, now=now, **settings)
    if not durable.write_once(out, write_invite(invite, coordinator_key(desk))):
        raise StateConflictError(f"{out}: the file exists. No invite was made.")
    desk.open_invite(ticket_of(invite))
    return {
        "federation": federation,
        "site_id": site_id,
        "path": str(out),
        "expires": invite.expires,
        "is_member": any(site.site_id == site_id for site in members.sites),
    }


def receive_request(
    home: Home, federation: str, envelope: bytes, *, now: datetime
) -> dict[str, Any]:
    """Take in an enrolment request that came as a file; see `Desk.receive`."""
    asked = existing(home, federation).receive(envelope, now=now)
    return {"site_id": asked.site_id, "legal_entity": asked.legal_entity}


def admit_site(
    home: Home,
    federation: str,
    site_id: str,
    *,
    heard: str,
    now: datetime,
    officer_keys: Sequence[Path] = (),
) -> dict[str, Any]:
    """Put a site on the member list, after its words were heard on the telephone.

    Args:
        home: This installation.
        federation: Which federation.
        site_id: Whose request.
        heard: The six words as they were heard; they are compared, not shown.
        now: The time.
        officer_keys: Key files of officers who are here; without one the one that `init` made.

    Raises:
        TrustError: No request came in (``identity``), or the words differ (``words``).
    """
    desk = existing(home, federation)
    asked = desk.request(site_id)
    if asked is None:
        raise TrustError(
            "identity",
            f"No enrolment request of {site_id} has come in. Nothing was changed. The site runs "
            "`hospitium site join INVITE`.",
        )
    require_words(asked, heard)
    members = desk.members()
    if asked.member in members.sites:
        return {"members_epoch": members.members_epoch, "is_in_force": True}
    following = changes.admit(members, asked.member, valid_until=now + VALIDITY)
    return publish(desk, following, officer_keys)


def revoke_site(
    home: Home,
    federation: str,
    site_id: str,
    *,
    now: datetime,
    officer_keys: Sequence[Path] = (),
) -> dict[str, Any]:
    """Cut a site off at once, then take it off the member list; a mere invite is withdrawn."""
    desk = existing(home, federation)
    members = desk.members()
    is_member = any(site.site_id == site_id for site in members.sites)
    if not is_member and desk.ticket(site_id) is None:
        members.site(site_id)
    desk.close_invite(site_id)
    if not is_member:
        return {"site_id": site_id, "members_epoch": members.members_epoch, "is_in_force": True}
    desk.cut_off(site_id, now=now)
    following = changes.revoke(members, site_id, valid_until=now + VALIDITY)
    return {"site_id": site_id, **publish(desk, following, officer_keys)}


def rotate_key(
    home: Home,
    federation: str,
    envelope: bytes,
    *,
    now: datetime,
    officer_keys: Sequence[Path] = (),
) -> dict[str, Any]:
    """Put the successor of a site's key on the member list; see `member_changes.rotate`."""
    desk = existing(home, federation)
    following = changes.rotate(desk.members(), envelope, valid_until=now + VALIDITY)
    return publish(desk, following, officer_keys)


def sign_proposed(
    home: Home, federation: str, *, proposed: Path, officer_keys: Sequence[Path] = ()
) -> dict[str, Any]:
    """Add officers' signatures to a proposed list; with enough of them it is in force.

    Raises:
        TrustError: The list cannot follow the one in force.
    """
    desk = existing(home, federation)
    envelope = read_file(proposed)
    following = lists.parse_list(envelope)
    lists.require_next(desk.members(), following)
    signed = lists.sign_members(following, *officers(desk, officer_keys))
    return settle(desk, following, dsse_merge(envelope, signed), path=proposed)


def list_sites(home: Home, federation: str) -> dict[str, Any]:
    """Return every site that is a member, was invited, or has asked to join.

    ``beat`` is a member's last heartbeat with the time at which it was heard; None before the
    first one.
    """
    desk = existing(home, federation)
    members, beats = desk.members(), desk.beats()
    rows = {
        site.site_id: {
            "site_id": site.site_id,
            "legal_entity": site.legal_entity,
            "state": "cut off" if desk.is_cut_off(site.site_id) else "member",
            "until": "",
            "beat": beats.get(site.site_id),
        }
        for site in members.sites
    }
    for site_id in desk.invited():
        ticket, asked = desk.ticket(site_id), desk.request(site_id)
        if site_id in rows or ticket is None:
            continue
        rows[site_id] = {
            "site_id": site_id,
            "legal_entity": asked.legal_entity if asked else "",
            "state": "asked to join" if asked else "invited",
            "until": ticket.expires,
            "beat": None,
        }
    return {
        "federation": federation,
        "members_epoch": members.members_epoch,
        "valid_until": members.valid_until,
        "min_sites": members.min_sites,
        "sites": [rows[site_id] for site_id in sorted(rows)],
    }


def write_lists(home: Home, federation: str, *, out: Path) -> dict[str, Any]:
    """Write every signed member list into one file that sites can take."""
    desk = existing(home, federation)
    envelopes = desk.chain.envelopes()
    data = b"\n".join(envelopes) + b"\n"
    durable.write_atomically(out, lambda file: str(file.write(data)))
    return {"path": str(out), "members_epoch": desk.members().members_epoch}


def _key(path: Path, purpose: Any, federation: str) -> SigningKey:
    """Return a key; made the first time, so that an interrupted `init` can be run again."""
    if path.exists():
        return read_key(path, purpose=purpose, federation=federation)
    return make_key(path, purpose=purpose, federation=federation)


def _authority(path: Path) -> str:
    """Return a CA's certificate, in PEM, as invites hold it."""
    try:
        return tidied(path.read_bytes())
    except (OSError, TrustError) as error:
        raise UsageError(
            f"{path}: this is no certificate in PEM form. Nothing was made."
        ) from error
