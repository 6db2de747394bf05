"""What leaves a site, as nouns: the closed list of kinds, what each entry says, and the line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

from hospitium.plan import Plan
from hospitium.site.consent import Consent
from hospitium.site.public_words import closed
from hospitium.types import Json, Update
from hospitium.wire.canonical import digest
from hospitium.wire.statement import Check, is_count, is_hex, is_text, list_of

Kind: TypeAlias = Literal[
    "enrolment", "rotation", "approval", "refusal", "withdrawal", "update", "scores", "error",
    "heartbeat", "fingerprint", "cosignature", "contribution", "resumed",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a kind of departure may be: its largest size in bytes, and the facts of its entry."""

    most: int
    facts: Mapping[str, Check] = field(default_factory=dict)


def _is_flags(value: Any) -> bool:
    return isinstance(value, dict) and all(is_text(item) for item in value.values())


def _is_digest_or_none(value: Any) -> bool:
    return value == "" or is_hex(value)


_OF_A_PLAN: Mapping[str, Check] = {"plan_digest": is_hex}
_OF_A_TASK: Mapping[str, Check] = {
    **_OF_A_PLAN,
    "run_id": is_text,
    "round_number": is_count,
    "nonce": _is_digest_or_none,
    "base_digest": is_hex,
    "members_digest": _is_digest_or_none,
    "members_epoch": is_count,
    "min_sites": is_count,
    "policy_digest": _is_digest_or_none,
    "approved_by": list_of(is_text, most=10),
    "num_cases": is_count,
    "num_arrays": is_count,
    "sums": list_of(is_text, most=64),
    "privacy": _is_flags,
    "envelope_sha256": is_hex,
    "params_sha256": _is_digest_or_none,
}
FORMS: Mapping[Kind, Form] = MappingProxyType(
    {
        "enrolment": Form(most=1 << 16),
        "rotation": Form(most=1 << 16),
        "approval": Form(most=1 << 16, facts=_OF_A_PLAN),
        "refusal": Form(most=1 << 16, facts=_OF_A_PLAN),
        "withdrawal": Form(most=1 << 16, facts=_OF_A_PLAN),
        "update": Form(most=1 << 40, facts=_OF_A_TASK),
        "scores": Form(most=1 << 21, facts=_OF_A_TASK),
        "error": Form(most=1 << 12, facts={"public": is_text, "nonce": is_hex}),
        "cosignature": Form(
            most=1 << 13,
            facts={
                **_OF_A_PLAN,
                "run_id": is_text,
                "round_number": is_count,
                "base_digest": is_hex,
                "log_size": is_count,
                "log_root": is_hex,
            },
        ),
        "contribution": Form(most=1 << 16, facts={**_OF_A_PLAN, "run_id": is_text}),
        "resumed": Form(
            most=1 << 12,
            facts={
                "run_id": is_text,
                "by": is_text,
                "reason": is_text,
                "stopped": is_text,
                "evidence_sha256": _is_digest_or_none,
            },
        ),
        "heartbeat": Form(most=1 << 10, facts={"day": is_text, "count": is_count}),
        "fingerprint": Form(
            most=1 << 20, facts={"fields": list_of(is_text, most=64), "least": is_count}
        ),
    }
)
"""All that leaves, and ``resumed``, which stays: a person had the site go on with a run that it was
out of. Each entry also says its size, its SHA-256, its time and where it goes."""


class Answering(Protocol):
    """A line on which tasks are answered."""

    def send(self, statement: bytes) -> bytes:
        """Hand in a statement that has no file; return the receipt."""

    def upload(self, path: Path, upload_id: str, statement: bytes) -> bytes:
        """Send a file and the statement about it; return the receipt."""


class Channel(Answering, Protocol):
    """The line to the coordinator; only ``egress.py`` sends on it."""

    def say(self, statement: bytes) -> bytes:
        """Bring what a person here said; return the receipt."""

    def enrol(self, request: bytes) -> str:
        """Bring an enrolment request; return the digest that came in."""

    def beat(self, beat: bytes) -> dict[str, Any]:
        """Say how this site is; return what the coordinator thinks of it."""


@dataclass(frozen=True, kw_only=True)
class Departure:
    """What is to leave in answer to a task.

    Attributes:
        kind: What it is.
        content: The envelope of an update, or words in UTF-8.
        facts: What its entry says beside size, digest, time and destination; as in `FORMS`.
        file: The file that goes with it, exactly as it leaves; None for none.
        sha256: Of the file; "" for none.
    """

    kind: Kind
    content: bytes
    facts: Mapping[str, Json]
    file: Path | None = None
    sha256: str = ""


def facts_of(
    update: Update,
    *,
    envelope: bytes,
    params_sha256: str,
    num_arrays: int,
    plan: Plan,
    consent: Consent | None,
    nonce: str = "",
    members_digest: str = "",
    is_sealed: bool = False,
) -> dict[str, Json]:
    """Return what the entry of an update says, beside size, digest, time and destination.

    Args:
        update: What leaves.
        envelope: Its envelope.
        params_sha256: Of the file of the change before it was sealed; "" for none.
        num_arrays: How many arrays the change has.
        plan: Under which it leaves.
        consent: What people here agreed to; None in a simulation.
        nonce: Of the question that it answers.
        members_digest: Of the member list that the question named.
        is_sealed: Whether only the coordinator can read it.
    """
    terms = consent.terms if consent else None
    return {
        "run_id": update.run_id,
        "round_number": update.round_number,
        "nonce": nonce,
        "plan_digest": update.plan_digest,
        "base_digest": update.base_digest,
        "members_digest": members_digest,
        "members_epoch": terms.members_epoch if terms else 0,
        "min_sites": terms.min_sites if terms else 0,
        "policy_digest": terms.policy_digest if terms else "",
        "approved_by": list(terms.approved_by) if terms else [],
        "num_cases": update.num_cases,
        "num_arrays": num_arrays,
        "sums": sorted(update.sums),
        "privacy": {
            "record_dp": plan.privacy.record_dp,
            "sealed": "yes" if is_sealed else "no",
            "secure_sums": plan.privacy.secure_sums,
        },
        "envelope_sha256": digest(envelope),
        "params_sha256": params_sha256,
    }


def words_of(words: bytes, nonce: str) -> Departure:
    """Return words about a task as what leaves; those that are on no list do not."""
    public = closed(words.decode("utf-8", errors="replace"))
    return Departure(
        kind="error", content=public.encode(), facts={"nonce": nonce, "public": public}
    )
