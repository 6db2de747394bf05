"""What is signed and sent: a question to a site, its answer, and the receipt for it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from hospitium.errors import UpdateError
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.signing import SigningKey, VerifyKey, dsse_payload, dsse_sign, dsse_verify

TASK_TYPE = "application/vnd.hospitium.task+json"
ANSWER_TYPE = "application/vnd.hospitium.answer+json"
RECEIPT_TYPE = "application/vnd.hospitium.receipt+json"
NO_TASK = (1 << 53) - 1
"""A number after which no task comes: a long poll after it waits and takes nothing."""
MAX_CHECKPOINT = 1 << 10
"""Characters of a signed checkpoint; an honest one has some 300."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a site is asked.

    Attributes:
        site_id: Whom; another site refuses it.
        task: The envelope of the task, as `hospitium.wire.envelope.encode_task` writes it.
        nonce: What the answer must name.
        blob: SHA-256 of the file of the task's params, and its size in bytes.
        deadline_s: How long the site has, from the moment it has the task.
        members_digest: Of the member list in force when it was asked; "" for none.
        num_sites: How many sites were chosen for this round.
        run_key: Public key of the run, hexadecimal, to which the update's file is sealed; "" where
            it is not sealed.
        opening: What it carries of the coordinator's log, as `opening.Opening` has it; empty where
            there is no log, as in a simulation.
        envelope: The signed bytes that it was read from; empty before.
    """

    site_id: str
    task: bytes
    nonce: str
    blob: str
    blob_bytes: int
    deadline_s: float
    members_digest: str
    num_sites: int
    run_key: str
    opening: bytes = b""
    envelope: bytes = field(default=b"", compare=False, repr=False)

    def signed(self, key: SigningKey) -> bytes:
        """Return these fields, signed by the coordinator."""
        payload = canonical_json(
            {
                "blob": self.blob,
                "blob_bytes": self.blob_bytes,
                "deadline_ms": round(self.deadline_s * 1000),
                "kind": "ask",
                "members_digest": self.members_digest,
                "nonce": self.nonce,
                "num_sites": self.num_sites,
                "opening": base64.b64encode(self.opening).decode(),
                "run_key": self.run_key,
                "site_id": self.site_id,
                "task": base64.b64encode(self.task).decode(),
            }
        )
        return dsse_sign(TASK_TYPE, payload, key)

    @classmethod
    def opened(cls, envelope: bytes, *, key: VerifyKey, site_id: str) -> Ask:
        """Read what the coordinator asks of this site.

        Raises:
            UpdateError: The coordinator did not sign it, for this site, in this form.
        """
        payload = dsse_verify(envelope, {key.key_id: key}, payload_type=TASK_TYPE)
        fields = _fields(payload, "ask", _ASK)
        if fields["site_id"] != site_id:
            raise UpdateError("identity", "A task that is for another site was refused.")
        return cls(
            site_id=site_id,
            task=base64.b64decode(fields["task"]),
            nonce=fields["nonce"],
            blob=fields["blob"],
            blob_bytes=fields["blob_bytes"],
            deadline_s=fields["deadline_ms"] / 1000,
            members_digest=fields["members_digest"],
            num_sites=fields["num_sites"],
            run_key=fields["run_key"],
            opening=base64.b64decode(fields["opening"]),
            envelope=envelope,
        )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a site answers: the envelope of an update, or public words about an error.

    Attributes:
        kind: Which of the two.
        nonce: Of the task.
        content: The envelope's bytes, or the words in UTF-8.
        sealed: SHA-256 of the sealed file that goes with it; "" where its file is not sealed, or
            there is none. The envelope names what is inside.
        cosignature: Of the coordinator's log and what it asked, as `hospitium.wire.cosignatures`
            has it; empty for words, and where no log was shown.
        checkpoint: Of the site's own log, signed; "" where it keeps none.
    """

    kind: Literal["update", "error"]
    nonce: str
    content: bytes
    sealed: str = ""
    cosignature: bytes = b""
    checkpoint: str = ""

    def signed(self, key: SigningKey) -> bytes:
        """Return these fields, signed by the site; the same bytes each time."""
        payload = canonical_json(
            {
                "checkpoint": self.checkpoint,
                "content": base64.b64encode(self.content).decode(),
                "cosignature": base64.b64encode(self.cosignature).decode(),
                "kind": self.kind,
                "nonce": self.nonce,
                "sealed": self.sealed,
            }
        )
        return dsse_sign(ANSWER_TYPE, payload, key)

    @classmethod
    def opened(cls, statement: bytes, *, key: VerifyKey) -> Reply:
        """Read what a site signed; its content is not looked at.

        Raises:
            UpdateError: This site did not sign it, in this form.
        """
        payload = dsse_verify(statement, {key.key_id: key}, payload_type=ANSWER_TYPE)
        kind: Literal["update", "error"] = "error" if b'"kind":"error"' in payload else "update"
        fields = _fields(payload, kind, _REPLY)
        return cls(
            kind=kind,
            nonce=fields["nonce"],
            content=base64.b64decode(fields["content"]),
            sealed=fields["sealed"],
            cosignature=base64.b64decode(fields["cosignature"]),
            checkpoint=fields["checkpoint"],
        )


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The coordinator's word that it holds a statement, durably, with the file that it names."""

    site_id: str
    statement: str
    index: int

    def signed(self, key: SigningKey) -> bytes:
        """Return these fields, signed by the coordinator."""
        payload = canonical_json(
            {
                "index": self.index,
                "kind": "receipt",
                "site_id": self.site_id,
                "statement": self.statement,
            }
        )
        return dsse_sign(RECEIPT_TYPE, payload, key)

    @classmethod
    def opened(cls, receipt: bytes, *, key: VerifyKey, site_id: str, statement: bytes) -> Receipt:
        """Read the receipt for this statement of this site.

        Raises:
            UpdateError: The coordinator did not sign it, or it is for another statement.
        """
        payload = dsse_verify(receipt, {key.key_id: key}, payload_type=RECEIPT_TYPE)
        fields = _fields(payload, "receipt", _RECEIPT)
        if (fields["site_id"], fields["statement"]) != (site_id, digest(statement)):
            raise UpdateError("identity", "A receipt for something else was refused.")
        return cls(site_id=site_id, statement=fields["statement"], index=fields["index"])


def is_update(statement: bytes) -> bool:
    """Whether a site's statement, which was verified before, answers with an update."""
    return b'"kind":"update"' in dsse_payload(statement)


def nonce_of(task: bytes, *, key: SigningKey, run_key: str = "") -> str:
    """Return the 256-bit nonce of a task: nobody else can tell it before it is asked.

    It is drawn from the coordinator's key, so that a task that is asked again after a crash has
    the same nonce, and the same answer fits. Under another run key it has another: what was sealed
    to a key that is lost is no answer to it.

    Args:
        task: The task, encoded.
        key: The coordinator's.
        run_key: The public key to which the answer's file is to be sealed; "" for none.
    """
    return hashlib.sha256(key.sign(f"hospitium nonce {run_key}\n".encode() + task)).hexdigest()


def _fields(
    payload: bytes, kind: str, checks: Mapping[str, Callable[[Any], bool]]
) -> dict[str, Any]:
    """Return the fields of a payload that has exactly these, in canonical form."""
    try:
        value = json.loads(payload)
        if canonical_json(value) != payload:
            raise ValueError("not canonical")
    except (ValueError, RecursionError) as error:
        raise UpdateError("canonical", "A statement that is not canonical was refused.") from error
    if not isinstance(value, dict) or set(value) != {"kind", *checks} or value["kind"] != kind:
        raise UpdateError("fields", f"A statement without exactly the fields of {kind}.")
    for name, is_valid in checks.items():
        if not is_valid(value[name]):
            raise UpdateError("fields", f"A statement was refused: its field {name} is not valid.")
    return cast(dict[str, Any], value)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_digest_or_none(value: Any) -> bool:
    return value == "" or _is_digest(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _is_base64(value: Any) -> bool:
    try:
        return (
            isinstance(value, str)
            and base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
        )
    except (binascii.Error, ValueError):
        return False


_ASK: Mapping[str, Callable[[Any], bool]] = {
    "blob": _is_digest,
    "blob_bytes": _is_count,
    "deadline_ms": _is_count,
    "members_digest": _is_digest_or_none,
    "nonce": _is_digest,
    "num_sites": _is_count,
    "opening": _is_base64,
    "run_key": _is_digest_or_none,
    "site_id": lambda value: isinstance(value, str),
    "task": _is_base64,
}
_REPLY: Mapping[str, Callable[[Any], bool]] = {
    "checkpoint": lambda value: isinstance(value, str) and len(value) <= MAX_CHECKPOINT,
    "content": _is_base64,
    "cosignature": _is_base64,
    "nonce": _is_digest,
    "sealed": _is_digest_or_none,
}
_RECEIPT: Mapping[str, Callable[[Any], bool]] = {
    "index": _is_count,
    "site_id": lambda value: isinstance(value, str),
    "statement": _is_digest,
}
