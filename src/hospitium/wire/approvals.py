"""What a site said about a plan: an approval by a named person, a refusal, or a withdrawal.

A plan comes signed by the coordinator. An approval names its digest, the member list, the site's
own policy and cohort: it approves exactly this, once. A withdrawal ends it for good, at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar

from hospitium.errors import TrustError, UpdateError
from hospitium.wire import statement
from hospitium.wire.members import Members
from hospitium.wire.signing import SigningKey, VerifyKey, dsse_sign, dsse_type, dsse_verify
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text, is_time

PLAN = statement.media_type("plan")
KindSaid: TypeAlias = Literal["approval", "refusal", "withdrawal"]

REFUSALS = ("purpose", "privacy", "data", "policy", "resources", "other")
"""Why a person may refuse a plan; free text does not travel."""


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One person's yes.

    ``num_cases`` is the weight that the site enrols with, ``min_sites`` the fewest sites with which
    its update may be combined, ``cohort_digest`` names what it trains on. ``budget`` is the privacy
    budget reserved for it, in thousandths of epsilon. ``isolation`` says how the training process
    is cut off from the network. ``expires`` is the last moment at which a task is answered.
    """

    federation: str
    site_id: str
    plan_digest: str
    policy_digest: str
    members_epoch: int
    members_digest: str
    approver: str
    role: str
    cohort_digest: str
    num_cases: int
    min_sites: int
    budget: int
    isolation: str
    agreement: str
    ethics: str
    expires: str
    time: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One person's no, with a reason of `REFUSALS`."""

    federation: str
    site_id: str
    plan_digest: str
    members_epoch: int
    approver: str
    reason: str
    time: str


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """The end of a site's part in a plan; there is no way back."""

    federation: str
    site_id: str
    plan_digest: str
    approver: str
    time: str


Said = Approval | Refusal | Withdrawal
_Kind = TypeVar("_Kind", bound=Said)


def sign_plan(canonical: bytes, *keys: SigningKey) -> bytes:
    """Return a plan's canonical bytes, signed by the coordinator and, if wanted, others."""
    return dsse_sign(PLAN, canonical, *keys)


def open_plan(envelope: bytes, members: Members) -> bytes:
    """Return the canonical bytes of a plan that the federation's coordinator signed.

    Raises:
        TrustError: It was changed, or somebody else signed it.
    """
    try:
        return dsse_verify(
            envelope, statement.keys_of(*members.coordinator_keys), payload_type=PLAN
        )
    except UpdateError as error:
        raise TrustError(error.reason, f"The plan was refused: {error}") from error


def sign_said(said: Said, key: SigningKey) -> bytes:
    """Return a site's statement, signed with its signing key.

    Raises:
        TrustError: A field is none that a statement may hold (``fields``).
    """
    kind = _KINDS[type(said)]
    statement.read(kind, statement.write(kind, asdict(said)), _CHECKS[type(said)])
    return statement.sign(kind, asdict(said), key)


def open_said(envelope: bytes, kind: type[_Kind], members: Members, *, site_id: str) -> _Kind:
    """Return what the site that sent it said, by the key that the member list gives for it.

    Args:
        envelope: What came in.
        kind: What it must be.
        members: The member list in force.
        site_id: Who signed the request that brought it; never taken from the statement.

    Raises:
        TrustError: It is another site's (``identity``), another federation's, or changed.
    """
    key = statement.keys_of(members.site(site_id).signing_key)
    return _opened(envelope, kind, key, federation=members.federation, site_id=site_id)


def open_own(envelope: bytes, key: VerifyKey, *, federation: str, site_id: str) -> Said:
    """Return what this site itself said, from its own disk; see `open_said`.

    Raises:
        TrustError: It was changed, or another key signed it.
    """
    kind = next(k for k, name in _KINDS.items() if name == kind_said(envelope))
    keys = {key.key_id: key}
    found: Said = _opened(envelope, kind, keys, federation=federation, site_id=site_id)
    return found


def kind_said(envelope: bytes) -> KindSaid:
    """Return what a statement claims to be; nobody's signature is looked at.

    Raises:
        TrustError: It is nothing that a site says (``fields``).
    """
    try:
        claimed = dsse_type(envelope)
    except UpdateError as error:
        raise TrustError(error.reason, f"A statement was refused: {error}") from error
    for name in _KINDS.values():
        if statement.media_type(name) == claimed:
            return name
    raise TrustError("fields", "A statement was refused: it is nothing that a site says.")


def _opened(
    envelope: bytes,
    kind: type[_Kind],
    keys: Mapping[str, VerifyKey],
    *,
    federation: str,
    site_id: str,
) -> _Kind:
    name = _KINDS[kind]
    payload, _ = statement.open_signed(name, envelope, keys)
    fields = statement.read(name, payload, _CHECKS[kind])
    del fields["kind"]
    said = kind(**fields)
    if said.federation != federation:
        raise TrustError("federation", f"The {name} is for another federation.")
    if said.site_id != site_id:
        raise TrustError("identity", f"{site_id} sent the {name} of another site.")
    return said


def require_current(approval: Approval, members: Members, *, now: datetime) -> None:
    """Refuse an approval that was given under another member list, or that has expired.

    Raises:
        TrustError: ``members`` or ``expired``.
    """
    if (approval.members_epoch, approval.members_digest) != (
        members.members_epoch,
        members.digest,
    ):
        raise TrustError(
            "members",
            f"{approval.site_id} approved under member list {approval.members_epoch}; "
            f"{members.members_epoch} is in force. The site looks at the new list and approves "
            "again.",
        )
    if now > statement.read_time(approval.expires):
        raise TrustError("expired", f"The approval of {approval.site_id} has expired.")


_KINDS: Mapping[type[Any], KindSaid] = {
    Approval: "approval",
    Refusal: "refusal",
    Withdrawal: "withdrawal",
}
_COMMON: Mapping[str, Check] = {
    "federation": is_id,
    "site_id": is_id,
    "plan_digest": is_hex,
    "approver": is_text,
    "time": is_time,
}
_CHECKS: Mapping[type[Any], Mapping[str, Check]] = {
    Approval: {
        **_COMMON,
        "policy_digest": is_hex,
        "members_epoch": is_count,
        "members_digest": is_hex,
        "role": is_text,
        "cohort_digest": is_hex,
        "num_cases": lambda value: is_count(value) and value >= 1,
        "min_sites": lambda value: is_count(value) and value >= 1,
        "budget": is_count,
        "isolation": lambda value: value in ("cut_off", "not_cut_off", "not_tested"),
        "agreement": is_text,
        "ethics": is_text,
        "expires": is_time,
    },
    Refusal: {
        **_COMMON,
        "members_epoch": is_count,
        "reason": lambda value: value in REFUSALS,
    },
    Withdrawal: _COMMON,
}
