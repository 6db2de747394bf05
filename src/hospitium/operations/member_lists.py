"""Putting a member list in force: with the officers who are here, or up for the others to sign.

A list that needs more officers than have signed is *proposed*: a file that goes from officer to
officer. Until enough have signed, the list before it is in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hospitium.errors import TrustError
from hospitium.site.keys import read_key
from hospitium.state import durable
from hospitium.state.desk import Desk
from hospitium.wire import members as lists
from hospitium.wire.members import Members
from hospitium.wire.signing import SigningKey


def publish(desk: Desk, following: Members, officer_keys: Sequence[Path]) -> dict[str, Any]:
    """Sign a list with the officers who are here, and put it in force or up for the others."""
    keys = officers(desk, officer_keys)
    envelope = lists.sign_members(following, *keys)
    path = desk.folder / f"proposed-{following.members_epoch:08d}.dsse"
    return settle(desk, following, envelope, path=path)


def settle(desk: Desk, following: Members, envelope: bytes, *, path: Path) -> dict[str, Any]:
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


def officers(desk: Desk, paths: Sequence[Path]) -> list[SigningKey]:
    """Return the keys of the officers who are here; without a path the one that `init` made."""
    return [
        read_key(path, purpose="officer", federation=desk.folder.name)
        for path in paths or [officer_key_of(desk)]
    ]


def officer_key_of(desk: Desk) -> Path:
    """Return where the first officer's key is, unless it was put elsewhere."""
    return desk.folder / "keys" / "officer.key"
