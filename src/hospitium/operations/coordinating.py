"""What the coordinating centre does: begin a federation, invite, admit, revoke, sign plans.

A list that needs more officers than have signed is *proposed*: a file that goes from officer to
officer. Until enough have signed, the list before it is in force.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hospitium.errors import StateConflictError, TrustError, UsageError
from hospitium.operations.enrolment import read_file
from hospitium.plan import load_plan
from hospitium.plan.checking import check_plan
from hospitium.site.keys import make_key, read_key
from hospitium.state import durable
from hospitium.state.desk import Desk
from hospitium.state.home import Home
from hospitium.wire import members as lists
from hospitium.wire.approvals import sign_plan
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.invites import PUBLIC_CA, new_invite, require_words, ticket_of, write_invite
from hospitium.wire.members import Members
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
    min_sites: int = 2,
    officer_key: Path | None = None,
) -> dict[str, Any]:
    """Make the coordinator's and one officer's key and sign the first member list.

    Args:
        home: This installation.
        federation: Its name: small letters, digits and dashes.
        addresses: HTTPS addresses under which sites reach the coordinator.
        now: The time.
        tls_ca: Certificate (PEM) of a CA of your own; None: a CA that everybody trusts.
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
    desk = _desk(home, federation)
    if desk.chain.envelopes():
        raise StateConflictError(f"{federation}: the federation exists. Nothing was changed.")
    fingerprint = _fingerprint(tls_ca) if tls_ca else PUBLIC_CA
    key_path = officer_key or _officer_key(desk)
    coordinator = _key(desk.folder / "keys" / "coordinator.key", "coordinator-signing", federation)
    officer = _key(key_path, "officer", federation)
    first = lists.first_list(
        federation=federation,
        officers=[officer.public.hex()],
        threshold=1,
        coordinator_key=coordinator.public.hex(),
        min_sites=min_sites,
        valid_until=now + VALIDITY,
    )
    settings = canonical_json({"addresses": list(addresses), "tls_ca_sha256": fingerprint})
    durable.write_atomically(desk.folder / "settings.json", lambda file: str(file.write(settings)))
    desk.chain.plant(federation=federation, officers=first.officers, threshold=1)
    desk.chain.extend([lists.sign_members(first, officer)])
    return {
        "federation": federation,
        "members_epoch": 1,
        "officer_key": str(key_path),
        "coordinator_key_id": coordinator.public.key_id,
        "tls_ca_sha256": fingerprint,
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
    following = lists.admit(members, asked.member, valid_until=now + VALIDITY)
    return _publish(desk, following, officer_keys)


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
    following = lists.revoke(members, site_id, valid_until=now + VALIDITY)
    return {"site_id": site_id, **_publish(desk, following, officer_keys)}


def rotate_key(
    home: Home,
    federation: str,
    envelope: bytes,
    *,
    now: datetime,
    officer_keys: Sequence[Path] = (),
) -> dict[str, Any]:
    """Put the successor of a site's key on the member list; see `hospitium.wire.members.rotate`."""
    desk = existing(home, federation)
    following = lists.rotate(desk.members(), envelope, valid_until=now + VALIDITY)
    return _publish(desk, following, officer_keys)


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
    signed = lists.sign_members(following, *_officers(desk, officer_keys))
    return _settle(desk, following, dsse_merge(envelope, signed), path=proposed)


def list_sites(home: Home, federation: str) -> dict[str, Any]:
    """Return every site that is a member, was invited, or has asked to join."""
    desk = existing(home, federation)
    members = desk.members()
    rows = {
        site.site_id: {
            "site_id": site.site_id,
            "legal_entity": site.legal_entity,
            "state": "cut off" if desk.is_cut_off(site.site_id) else "member",
            "until": "",
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


def offer_plan(home: Home, federation: str, plan_path: Path, *, out: Path) -> dict[str, Any]:
    """Check a plan, sign it with the coordinator's key, and write it for the sites' inboxes.

    Raises:
        PlanError: The plan has problems.
    """
    desk = existing(home, federation)
    plan = load_plan(plan_path)
    check_plan(plan, num_sites=len(desk.members().sites) or None)
    envelope = sign_plan(plan.canonical, coordinator_key(desk))
    durable.write_atomically(out, lambda file: str(file.write(envelope)))
    return {"path": str(out), "plan_digest": plan.digest, "name": plan.name}


def existing(home: Home, federation: str) -> Desk:
    """Return the desk of a federation that this installation coordinates.

    Raises:
        UsageError: It coordinates none of this name; those it does are listed.
    """
    known = federations(home)
    if federation not in known:
        raise UsageError(
            f"This installation does not coordinate {federation!r}. Nothing was done. It "
            f"coordinates: {', '.join(known) or 'nothing yet'}. Begin one with `hospitium "
            "coordinator init`."
        )
    return _desk(home, federation)


def only_federation(home: Home) -> str:
    """Return the federation that is meant when none is named.

    Raises:
        UsageError: There are none or several.
    """
    known = federations(home)
    if len(known) != 1:
        raise UsageError(
            f"Which federation? This installation coordinates {', '.join(known) or 'none yet'}. "
            "Nothing was done. Name one with --federation, or begin one with `hospitium "
            "coordinator init`."
        )
    return known[0]


def federations(home: Home) -> list[str]:
    """Return the federations that this installation coordinates, sorted."""
    paths = (home.folder / "coordinator").glob("*/settings.json")
    return sorted(path.parent.name for path in paths)


def coordinator_key(desk: Desk) -> SigningKey:
    """Return the coordinator's signing key of a federation."""
    path = desk.folder / "keys" / "coordinator.key"
    return read_key(path, purpose="coordinator-signing", federation=desk.folder.name)


def _publish(desk: Desk, following: Members, officer_keys: Sequence[Path]) -> dict[str, Any]:
    """Sign a list with the officers who are here, and put it in force or up for the others."""
    keys = _officers(desk, officer_keys)
    envelope = lists.sign_members(following, *keys)
    path = desk.folder / f"proposed-{following.members_epoch:08d}.dsse"
    return _settle(desk, following, envelope, path=path)


def _settle(desk: Desk, following: Members, envelope: bytes, *, path: Path) -> dict[str, Any]:
    """Put a list in force if enough officers signed it; else keep it where they find it."""
    before = desk.members()
    try:
        desk.chain.extend([envelope])
    except TrustError as error:
        if error.reason != "threshold":
            raise
        durable.write_atomically(path, lambda file: str(file.write(envelope)))
        return {
            "members_epoch": before.members_epoch,
            "is_in_force": False,
            "proposed": str(path),
            "threshold": before.threshold,
        }
    durable.delete(path)
    old = {site.site_id: site for site in before.sites}
    for site in following.sites:
        kept = old.get(site.site_id)
        if kept is None or not {kept.signing_key, kept.request_key} & set(following.active_keys):
            desk.let_in_again(site.site_id)
    return {"members_epoch": following.members_epoch, "is_in_force": True}


def _officers(desk: Desk, paths: Sequence[Path]) -> list[SigningKey]:
    return [
        read_key(path, purpose="officer", federation=desk.folder.name)
        for path in paths or [_officer_key(desk)]
    ]


def _officer_key(desk: Desk) -> Path:
    return desk.folder / "keys" / "officer.key"


def _key(path: Path, purpose: Any, federation: str) -> SigningKey:
    """Return a key; made the first time, so that an interrupted `init` can be run again."""
    if path.exists():
        return read_key(path, purpose=purpose, federation=federation)
    return make_key(path, purpose=purpose, federation=federation)


def _fingerprint(path: Path) -> str:
    """Return the SHA-256 of a CA's certificate, as every tool shows it."""
    try:
        return digest(ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: this is no certificate in PEM form. Nothing was made."
        ) from error


def _desk(home: Home, federation: str) -> Desk:
    return Desk(home.folder / "coordinator" / federation)
