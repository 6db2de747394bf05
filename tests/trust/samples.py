"""One honest message of each kind that comes from outside, and how its receiver reads it.

Reading returns what the message means to the receiver, as a value that can be compared, or raises
one of the refusals. Those who sign are fixed, so that a failure repeats.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tiny import tiny_plan
from trusted import COORDINATOR, LATER, NOW, OFFICERS, invited, key, member, request_of, with_oslo

from hospitium.engines.hub import hearing
from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.messages import Ask, Receipt, Reply
from hospitium.engines.hub.opening import Logged, Opening
from hospitium.engines.hub.requests import Member as HubMember
from hospitium.engines.hub.requests import Question, Signer, Verifier
from hospitium.errors import (
    CorruptedError,
    HubError,
    PlanError,
    TrustError,
    UpdateError,
    VersionError,
)
from hospitium.site.plan_inbox import _plan_of
from hospitium.types import Seat, Task, Update
from hospitium.wire import blob
from hospitium.wire.approvals import (
    Approval,
    Refusal,
    Withdrawal,
    kind_said,
    open_plan,
    open_said,
    sign_plan,
    sign_said,
)
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from hospitium.wire.cosignatures import Asking, cosign, open_cosignature
from hospitium.wire.enrolments import check_request
from hospitium.wire.envelope import decode_task, decode_update, encode_task, encode_update
from hospitium.wire.gate import REASONS, check_update
from hospitium.wire.invites import read_invite, write_invite
from hospitium.wire.member_changes import admit, rotate, sign_rotation
from hospitium.wire.members import follow, open_first, sign_members
from hospitium.wire.merkle import leaf_hash
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import TRUST_REASONS, time_text

REFUSED = (UpdateError, TrustError, CorruptedError, HubError, PlanError, VersionError)
"""All that may come of bytes from outside."""

SITE = "oslo"
SIGNING, REQUEST = key(10), key(11)
MEMBERS = with_oslo()
PLAN = tiny_plan()
PARAMS = {
    "b": np.zeros(2, np.float32),
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
}
MANIFEST = blob.manifest_of(PARAMS)
TASK = Task(
    run_id="study",
    round_number=3,
    plan_digest=PLAN.digest,
    params=PARAMS,
    base_digest=blob.digest_of(PARAMS),
    max_norm=10.0,
)
SEAT = Seat(site_id=SITE, num_cases=100)
SUM_LENGTHS = {"n": 1, "loss": 2}
UPDATE = Update(
    run_id=TASK.run_id,
    round_number=TASK.round_number,
    site_id=SITE,
    plan_digest=TASK.plan_digest,
    base_digest=TASK.base_digest,
    num_cases=SEAT.num_cases,
    delta=PARAMS,
    sums={"n": (100,), "loss": (7, 3)},
    num_steps=12,
    train_s=0.5,
)
FILE = b"".join(bytes(block) for block in blob.blocks_of(PARAMS))
NONCE = "a" * 64


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An honest message.

    Attributes:
        data: Its bytes.
        read: How the receiver reads it.
        signers: Keys that may have signed it: what a liar among them can sign anew.
        binds: Whether every byte is bound: an accepted message is this one.
    """

    data: bytes
    read: Callable[[bytes], object]
    signers: Sequence[SigningKey] = ()
    binds: bool = True


def is_clear(error: Exception) -> bool:
    """Whether a refusal has a reason of its closed list."""
    if isinstance(error, UpdateError):
        return error.reason in REASONS
    if isinstance(error, TrustError):
        return error.reason in TRUST_REASONS
    return isinstance(error, REFUSED)


def samples(folder: Path) -> dict[str, Sample]:
    """Return one message of each kind; files that are read are put into a folder."""
    return {**_statements(), **_updates(folder), **_said(), **_answers(), **_records()}


def _statements() -> dict[str, Sample]:
    """What identity rests on."""
    invite, ticket = invited()
    before = replace(MEMBERS, sites=())
    rotation = sign_rotation(MEMBERS, site_id=SITE, purpose="request", new=key(20), signing=SIGNING)
    first = sign_members(MEMBERS, OFFICERS[0])
    bergen = admit(MEMBERS, member("bergen", first=30), valid_until=LATER)
    return {
        "invite": Sample(
            data=write_invite(invite, COORDINATOR),
            read=lambda data: read_invite(data, now=NOW),
            signers=(COORDINATOR,),
        ),
        "enrolment": Sample(
            data=request_of(invite),
            read=lambda data: check_request(data, ticket=ticket, members=before, now=NOW),
            signers=(key(10), key(11), SigningKey.from_bytes(invite.token)),
        ),
        "member list": Sample(
            data=first,
            read=lambda data: open_first(
                data, federation="north", officers=MEMBERS.officers, threshold=1
            ),
            signers=OFFICERS,
        ),
        "next member list": Sample(
            data=sign_members(bergen, OFFICERS[0]),
            read=lambda data: follow(MEMBERS, [data]),
            signers=OFFICERS,
        ),
        "rotation": Sample(
            data=rotation,
            read=lambda data: rotate(MEMBERS, data, valid_until=LATER),
            signers=(SIGNING, key(20)),
        ),
        "plan": Sample(
            data=sign_plan(PLAN.canonical, COORDINATOR),
            read=lambda data: _plan_of(open_plan(data, MEMBERS)),
            signers=(COORDINATOR,),
        ),
    }


def _updates(folder: Path) -> dict[str, Sample]:
    """What a round is made of."""
    ask = Ask(
        site_id=SITE, task=encode_task(TASK), nonce=NONCE, blob=TASK.base_digest,
        blob_bytes=len(FILE), deadline_s=60.0, members_digest=MEMBERS.digest, num_sites=3,
        run_key="5" * 64,
    )  # fmt: skip
    envelope = encode_update(UPDATE, blob_digest=digest(FILE))
    reply = Reply(kind="update", nonce=NONCE, content=envelope, sealed="6" * 64)
    receipt = Receipt(site_id=SITE, statement=digest(envelope), index=4)
    return {
        "task": Sample(data=encode_task(TASK), read=_task, binds=False),
        "update": Sample(data=envelope, read=_update, binds=False),
        "ask": Sample(
            data=ask.signed(COORDINATOR),
            read=lambda data: Ask.opened(data, key=COORDINATOR.public, site_id=SITE),
            signers=(COORDINATOR,),
        ),
        "reply": Sample(
            data=reply.signed(SIGNING),
            read=lambda data: Reply.opened(data, key=SIGNING.public),
            signers=(SIGNING,),
        ),
        "receipt": Sample(
            data=receipt.signed(COORDINATOR),
            read=lambda data: Receipt.opened(
                data, key=COORDINATOR.public, site_id=SITE, statement=envelope
            ),
            signers=(COORDINATOR,),
        ),
        "file of an update": Sample(data=FILE, read=lambda data: _file(folder, data)),
        "file of unknown params": Sample(
            data=FILE, read=lambda data: _unknown(folder, data), binds=False
        ),
    }


def _said() -> dict[str, Sample]:
    """What a site says about a plan, and how it is."""
    named = {
        "federation": "north", "site_id": SITE, "plan_digest": PLAN.digest,
        "approver": "Kari Nordmann", "time": time_text(NOW),
    }  # fmt: skip
    approval = Approval(
        **named, policy_digest="a" * 64, members_epoch=2, members_digest=MEMBERS.digest,
        role="physicist", cohort_digest="b" * 64, num_cases=100, min_sites=2, budget=0,
        isolation="cut_off", agreement="A-17", ethics="REK 2026/1", expires=time_text(LATER),
    )  # fmt: skip
    refusal = Refusal(**named, members_epoch=2, reason="privacy")
    beat = Beat(state="training", version="0.1.0", decoding=True, round_number=3)
    return {
        **{
            name: Sample(data=sign_said(said, SIGNING), read=_said_by_oslo, signers=(SIGNING,))
            for name, said in (
                ("approval", approval),
                ("refusal", refusal),
                ("withdrawal", Withdrawal(**named)),
            )
        },
        "heartbeat": Sample(data=beat.encoded(), read=Beat.decoded, binds=False),
        "request": _request(),
    }


def _answers() -> dict[str, Sample]:
    """What a hub answers, which nobody signed."""
    standing = {
        "federation": "north", "site_id": SITE, "members_epoch": 2, "members_digest": "a" * 64,
        "request_key": "b" * 64, "signing_key": "c" * 64, "heard": "",
        "plans": {PLAN.digest: "approved"},
    }  # fmt: skip
    tables: Mapping[str, tuple[Any, Callable[[bytes], object]]] = {
        "challenge": ({"challenge": NONCE}, lambda data: hearing.table(data, hearing.CHALLENGE)),
        "tasks": (
            {"tasks": [{"n": 3, "envelope": "{}"}]},
            lambda data: hearing.table(data, hearing.TASKS),
        ),
        "lists": ({"lists": ["{}", "{}"]}, lambda data: hearing.envelopes(data, "lists")),
        "chunks": (
            {"total_bytes": 1 << 20, "chunk_bytes": 1 << 16, "chunks": [[0, 3], [5, 5]]},
            hearing.chunks,
        ),
        "standing": (standing, lambda data: hearing.table(data, hearing.STANDING)),
        "answer to a heartbeat": (
            {"time": time_text(NOW), "standing": standing},
            lambda data: hearing.table(data, hearing.BEAT),
        ),
        "error": (
            {"ok": False, "code": "E205", "reason": "busy", "error": "Too many."},
            hearing.error_words,
        ),
    }
    return {
        f"hub: {name}": Sample(data=canonical_json(fields), read=read, binds=False)
        for name, (fields, read) in tables.items()
    }


def _records() -> dict[str, Sample]:
    """Logs, as others are shown them."""
    checkpoint = Checkpoint(origin="hospitium/north/coordinator/study", size=4, root=b"r" * 32)
    note = sign_checkpoint(checkpoint, COORDINATOR)
    asking = Asking(
        run_id="study", round_number=3, purpose="train", plan_digest=PLAN.digest,
        base_digest=TASK.base_digest, members_digest=MEMBERS.digest, sites=("bergen", SITE),
    )  # fmt: skip
    entry = Logged(n=3, data=canonical_json({"kind": "asked", **asking.fields}), proof=[b"p" * 32])
    opening = Opening(checkpoint=note, asked=entry, earlier={2: [b"q" * 32]}, closed=[], mine=entry)
    return {
        "checkpoint": Sample(
            data=note.encode(),
            read=lambda data: _checkpoint(data, checkpoint.origin),
            signers=(COORDINATOR,),
        ),
        "cosignature": Sample(
            data=cosign(asking, checkpoint, asked=3, site_id=SITE, key=SIGNING, time=1),
            read=lambda data: open_cosignature(data, SIGNING.public, REQUEST.public, site_id=SITE),
            signers=(SIGNING, REQUEST),
        ),
        "opening": Sample(data=opening.encoded(), read=Opening.decoded, binds=False),
        "asking": Sample(
            data=canonical_json({"kind": "asked", **asking.fields}),
            read=_asking,
            binds=False,
        ),
    }


# --- reading ----------------------------------------------------------------------------------


def _task(data: bytes) -> object:
    """Read a task as a site does; what is written again are the same bytes."""
    task = decode_task(data, params={})
    assert encode_task(task) == data
    return replace(task, params={})


def _update(data: bytes) -> object:
    """Pass an envelope through the gate; what passes differs in nothing that is bound."""
    update, promised = decode_update(data)
    check_update(
        replace(update, delta=PARAMS), task=TASK, seat=SEAT, manifest=MANIFEST,
        sum_lengths=SUM_LENGTHS,
    )  # fmt: skip
    assert encode_update(update, blob_digest=promised) == data
    bound = ("run_id", "round_number", "site_id", "plan_digest", "base_digest", "num_cases")
    assert all(getattr(update, name) == getattr(UPDATE, name) for name in bound)
    return update, promised


def _file(folder: Path, data: bytes) -> object:
    """Read the file of an update as the coordinator does: header compared, digest promised."""
    path = folder / "update"
    path.write_bytes(data)
    params = blob.read(path, manifest=MANIFEST)
    if blob.file_digest(path) != digest(FILE):
        raise UpdateError("blob_digest", "another digest")
    return {name: array.tobytes() for name, array in params.items()}


def _unknown(folder: Path, data: bytes) -> object:
    """Read a file whose manifest nobody knows; what is read makes a file of the same values."""
    path = folder / "unknown"
    path.write_bytes(data)
    params = blob.read(path)
    assert sum(array.nbytes for array in params.values()) <= len(data)
    return {name: (array.dtype.str, array.tobytes()) for name, array in params.items()}


def _said_by_oslo(data: bytes) -> object:
    """Read what a site said, as the desk does."""
    kinds = {"approval": Approval, "refusal": Refusal, "withdrawal": Withdrawal}
    return asdict(open_said(data, kinds[kind_said(data)], MEMBERS, site_id=SITE))


def _checkpoint(data: bytes, origin: str) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise TrustError("canonical", "no text") from None
    return open_checkpoint(text, COORDINATOR.public, origin=origin)


def _asking(data: bytes) -> object:
    """Read an entry of the coordinator's log as a site does that was shown a log with just that."""
    root = leaf_hash(data)
    checkpoint = Checkpoint(origin="hospitium/north/coordinator/study", size=1, root=root)
    return Asking.of(Logged(n=0, data=data, proof=[]).content(checkpoint))


def _request() -> Sample:
    """A signed request; each one is admitted by a hub that has not seen it."""
    question = Question(method="GET", path="/v1/tasks", query="after=0")
    members = {SITE: HubMember(request_key=REQUEST.public, signing_key=SIGNING.public)}
    verifier = Verifier(members, clock=lambda: 1.0)
    header = Signer(REQUEST, verifier.challenge()).header(question, content_sha256=digest(b""))

    def read(data: bytes) -> object:
        verifier._used.clear()
        caller = verifier.admit(base64.b64encode(data).decode(), question)
        return caller.site_id, caller.content_sha256

    return Sample(data=base64.b64decode(header), read=read, signers=(REQUEST,))
