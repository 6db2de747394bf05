"""Cosignatures: a site's word about which log of the coordinator it was shown, with which model.

A site signs the checkpoint of the coordinator's log as C2SP ``cosignature/v1`` has it (tlog-
cosignature: type 0x04, with a time), and, together with it, what it was asked: the model, the plan,
the member list and the sites of the round. Two sites that were shown two histories, two models or
two sets of sites have signed things that cannot both be true, and anybody can see that.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hospitium.errors import TrustError, UpdateError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import Checkpoint, note_key_id
from hospitium.wire.signing import SigningKey, VerifyKey
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text

KIND = "cosignature"
COSIGNATURE_V1 = 0x04
"""The signature type of a timestamped cosignature of a checkpoint (C2SP tlog-cosignature)."""

_PURPOSES = ("train", "score")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What all sites of a round are asked alike; the coordinator logs it before it asks.

    ``sites`` are all that are asked, sorted. ``members_digest`` is "" where there is no list.
    """

    run_id: str
    round_number: int
    purpose: str
    plan_digest: str
    base_digest: str
    members_digest: str
    sites: tuple[str, ...]

    @property
    def fields(self) -> dict[str, Json]:
        """The same as plain JSON, as the log holds it."""
        return {
            "run_id": self.run_id,
            "round_number": self.round_number,
            "purpose": self.purpose,
            "plan_digest": self.plan_digest,
            "base_digest": self.base_digest,
            "members_digest": self.members_digest,
            "sites": list(self.sites),
        }

    @property
    def sites_digest(self) -> str:
        """SHA-256 of the canonical list of the sites."""
        return digest(canonical_json(list(self.sites)))

    @classmethod
    def of(cls, leaf: Mapping[str, Any]) -> Asking:
        """Read what a log entry of the kind ``asked`` says.

        Raises:
            TrustError: It is none (``fields``).
        """
        try:
            sites = tuple(str(name) for name in leaf["sites"])
            found = cls(**{name: leaf[name] for name in _ASKING if name != "sites"}, sites=sites)
        except (KeyError, TypeError) as error:
            raise TrustError("fields", "An entry that is no asking was refused.") from error
        is_valid = all(check(leaf[name]) for name, check in _ASKING.items())
        if leaf.get("kind") != "asked" or not is_valid or list(sites) != sorted(set(sites)):
            raise TrustError("fields", "An entry that is no asking was refused.")
        return found


@dataclass(frozen=True, kw_only=True)
class Cosignature:
    """What a site cosigned.

    Attributes:
        site_id: Who.
        origin: Whose log; ``size`` and ``root`` (hexadecimal) are its checkpoint.
        asked: Number of the log entry with what was asked; the rest is what that entry says,
            ``sites`` as its digest.
        time: Seconds since 1970, by the site's clock.
    """

    site_id: str
    origin: str
    size: int
    root: str
    asked: int
    run_id: str
    round_number: int
    purpose: str
    plan_digest: str
    base_digest: str
    members_digest: str
    sites: str
    time: int

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that was cosigned."""
        return Checkpoint(origin=self.origin, size=self.size, root=bytes.fromhex(self.root))

    def says(self, asking: Asking) -> bool:
        """Whether it is about exactly this asking."""
        expected = {**asking.fields, "sites": asking.sites_digest}
        return all(getattr(self, name) == value for name, value in expected.items())


def cosign(
    asking: Asking,
    checkpoint: Checkpoint,
    *,
    asked: int,
    site_id: str,
    key: SigningKey,
    time: int,
) -> bytes:
    """Return a site's cosignature of a checkpoint, and of what it was asked under it.

    Args:
        asking: What was asked.
        checkpoint: Of the coordinator's log; it holds the entry with the asking.
        asked: The number of that entry.
        site_id: Who signs.
        key: Its signing key.
        time: Seconds since 1970.
    """
    note = note_key_id(site_id, key.public, kind=COSIGNATURE_V1) + time.to_bytes(8, "big")
    note += key.sign(_signed(checkpoint, time))
    fields: dict[str, Json] = {
        **asking.fields,
        "sites": asking.sites_digest,
        "site_id": site_id,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "asked": asked,
        "time": time,
        "note": base64.b64encode(note).decode(),
    }
    return statement.sign(KIND, fields, key)


def open_cosignature(envelope: bytes, *keys: VerifyKey, site_id: str) -> Cosignature:
    """Return what a site cosigned, after every check of both signatures.

    Args:
        envelope: What came in; nothing of it is trusted.
        keys: The site's signing keys, by the member lists: that in force, and earlier ones.
        site_id: Whose it must be.

    Raises:
        TrustError: None of these keys signed it (``signature``), it is not in the one form
            (``canonical``, ``fields``), or another site's (``identity``).
    """
    by_id = {key.key_id: key for key in keys}
    payload, signers = statement.open_signed(KIND, envelope, by_id)
    fields = statement.read(KIND, payload, _CHECKS)
    note = base64.b64decode(fields.pop("note"))
    del fields["kind"]
    found = Cosignature(**fields)
    if found.site_id != site_id:
        raise TrustError("identity", f"A cosignature of another site than {site_id} was refused.")
    if len(signers) != 1:
        raise TrustError("signature", f"A cosignature of {site_id} is signed by several keys.")
    (signer,) = signers
    expected = note_key_id(site_id, by_id[signer], kind=COSIGNATURE_V1)
    expected += found.time.to_bytes(8, "big")
    try:
        by_id[signer].verify(note[12:], _signed(found.checkpoint, found.time))
    except UpdateError as error:
        raise TrustError("signature", f"A cosignature of {site_id} does not hold.") from error
    if note[:12] != expected:
        raise TrustError("signature", f"A cosignature of {site_id} names another key or time.")
    return found


def _signed(checkpoint: Checkpoint, time: int) -> bytes:
    """Return what ``cosignature/v1`` signs."""
    return f"cosignature/v1\ntime {time}\n{checkpoint.body}".encode()


def _is_note(value: Any) -> bool:
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, TypeError):
        return False
    return len(data) == 4 + 8 + 64 and base64.b64encode(data).decode() == value


_ASKING: Mapping[str, Check] = {
    "run_id": is_text,
    "round_number": is_count,
    "purpose": lambda value: value in _PURPOSES,
    "plan_digest": is_hex,
    "base_digest": is_hex,
    "members_digest": lambda value: value == "" or is_hex(value),
    "sites": lambda value: isinstance(value, list) and all(is_id(name) for name in value),
}
_CHECKS: Mapping[str, Check] = {
    **_ASKING,
    "sites": is_hex,
    "site_id": is_id,
    "origin": is_text,
    "size": is_count,
    "root": is_hex,
    "asked": is_count,
    "time": is_count,
    "note": _is_note,
}
