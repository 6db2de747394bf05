"""A federation of two sites and a coordinator after a run of three rounds, with both records.

Keys, member lists, entries, cosignatures and receipts are real; training and the network are not.
"""

import base64
import importlib.util
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from carried import NAME, Federation

from hospitium.engines.hub.messages import Receipt, Reply
from hospitium.engines.hub.transport import WORK
from hospitium.engines.hub.watched import WATCH, WatchedRun
from hospitium.operations.audit_bundles import note_run, run_bundle, site_bundle, write_bundle
from hospitium.operations.auditing import verify_bundles
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.running import open_ledger
from hospitium.site.leaving import Departure, facts_of, words_of
from hospitium.site.record import egress_of
from hospitium.state.ledger import RunLedger
from hospitium.state.run_log import log_append
from hospitium.types import Seat, Update
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import Checkpoint, coordinator_origin, sign_checkpoint
from hospitium.wire.cosignatures import Asking, cosign
from hospitium.wire.envelope import encode_update

RUN, SITES, ROUNDS = "study", ("bergen", "oslo"), 3
ORIGIN = coordinator_origin(NAME, RUN)


def load_verifier():
    """Return the one-file verifier as a module; it is no part of the package."""
    path = Path(__file__).parents[2] / "verifier" / "hospitium_verify.py"
    spec = importlib.util.spec_from_file_location("hospitium_verify", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VERIFIER = load_verifier()


def both(bundles, folder):
    """Return what we and the offline verifier find, which is the same."""
    paths = [folder / f"{n}.jsonl" for n in range(len(bundles))]
    for rows, path in zip(bundles, paths, strict=True):
        write_bundle(rows, path)
    read = VERIFIER.verified([str(path) for path in paths])
    ours = {(it.origin, it.name, it.n) for it in verify_bundles(bundles)}
    assert {(bundle.origin, name, n) for bundle in read for name, n, _ in bundle.found} == ours
    return ours


class Hub:
    """Takes what a site sends, and signs for it."""

    def __init__(self, key, site_id):
        self.key, self.site_id, self.statements = key, site_id, []

    def upload(self, path, upload_id, statement):
        return self.send(statement)

    def send(self, statement):
        self.statements.append(statement)
        receipt = Receipt(site_id=self.site_id, statement=digest(statement), index=1)
        return receipt.signed(self.key)

    def say(self, statement):
        return self.send(statement)

    def beat(self, beat):
        return {}


@dataclass
class Recorded:
    """The federation in a folder; `copy` gives one that may be tampered with."""

    folder: Path

    @property
    def federation(self):
        return Federation(folder=self.folder)

    def home(self, name):
        return self.federation.site(name)

    def log(self, site_id):
        return self.federation.place(site_id).folder / "log"

    def database(self):
        return self.federation.coordinator.folder / "runs" / RUN / "ledger.sqlite"

    def watched(self, site_id):
        return WatchedRun(self.federation.place(site_id).folder / WORK / WATCH / RUN)

    def bundles(self, *names):
        """Return the bundles of these sides, sites first."""
        return [
            run_bundle(self.federation.coordinator, RUN)
            if name == "coordinator"
            else site_bundle(self.home(name), None)
            for name in names
        ]

    def copy(self, folder):
        shutil.copytree(self.folder, folder)
        return Recorded(folder)


def record(folder, *, split=False):
    """Have two sites take part in a run, and return what is on disk afterwards.

    With ``split`` the coordinator gives the second site another model in the last round.
    """
    there = Recorded(folder)
    federation = there.federation.begin()
    for site_id in SITES:
        federation.admit(site_id)
    for site_id in SITES:
        federation.carry(site_id)
    plan = federation.offer(*SITES)
    home = federation.coordinator
    run_folder = home.new_run(RUN)
    seats = [Seat(site_id=site_id, num_cases=9) for site_id in SITES]
    RunLedger.create(run_folder, run_id=RUN, plan=plan, seats=seats, facts={"federation": NAME})
    ledger = open_ledger(run_folder)
    key = coordinator_key(existing(home, NAME))
    for site_id in SITES:
        egress, hub = egress_of(federation.place(site_id)), Hub(key, site_id)
        egress.beat(b"well", hub)
    for round_number in range(1, ROUNDS + 1):
        is_split = split and round_number == ROUNDS
        _round(there, ledger, plan, key, round_number, is_split=is_split)
    note_run(ledger, key=key, federation=NAME)
    ledger.close()
    return there


def _round(there, ledger, plan, key, round_number, *, is_split):
    base = f"{round_number:x}" * 64
    members = existing(there.federation.coordinator, NAME).members()
    asking = Asking(
        run_id=RUN, round_number=round_number, purpose="train", plan_digest=plan.digest,
        base_digest=base, members_digest=members.digest, sites=SITES,
    )  # fmt: skip
    for site_id in SITES:
        if is_split and site_id == SITES[-1]:
            asking = replace(asking, base_digest="f" * 64)
        asked = ledger.log.asked(asking.fields)
        size = asked + 1
        head = Checkpoint(origin=ORIGIN, size=size, root=ledger.log.tree().root(size))
        there.watched(site_id).remember(sign_checkpoint(head, key))
        evidence = _answer(there, plan, key, asking, asked, head, site_id)
        with ledger._database.transaction("received") as change:
            log_append(
                change, "received", round_number=round_number, site_id=site_id, num_cases=9,
                num_steps=1, sums="0" * 64, **evidence,
            )  # fmt: skip
    with ledger._database.transaction("closed") as change:
        log_append(change, "round_closed", round_number=round_number, base_digest=base)


def _answer(there, plan, key, asking, asked, head, site_id):
    """Let an update leave as a site's agent does, and return what the coordinator logs of it."""
    place = there.federation.place(site_id)
    egress, hub, signing = egress_of(place), Hub(key, site_id), place.signing_key()
    delta = {"w": np.full(3, asking.round_number + len(site_id), np.float32)}
    update = Update(
        run_id=RUN, round_number=asking.round_number, site_id=site_id, num_cases=9,
        plan_digest=plan.digest, base_digest=asking.base_digest, delta=delta,
    )  # fmt: skip
    file = there.folder / f"{site_id}.update"
    with file.open("wb") as out:
        sha256 = blob.write(out, delta)
    envelope, nonce = encode_update(update, blob_digest=sha256), digest(asking.base_digest.encode())
    facts = facts_of(
        update, envelope=envelope, params_sha256=sha256, num_arrays=1, plan=plan, consent=None,
        nonce=nonce, members_digest=asking.members_digest, is_sealed=False,
    )  # fmt: skip
    time = 1_795_000_000
    cosignature = cosign(asking, head, asked=asked, site_id=site_id, key=signing, time=time)
    egress.answer(
        Departure(kind="update", content=envelope, facts=facts, file=file, sha256=sha256),
        hub,
        sign=lambda checkpoint: Reply(
            kind="update", nonce=nonce, content=envelope, cosignature=cosignature,
            checkpoint=checkpoint,
        ).signed(signing),
        require=lambda receipt, statement: Receipt.opened(
            receipt, key=key.public, site_id=site_id, statement=statement
        ),
    )  # fmt: skip
    egress.answer(
        words_of(b"the site has paused", digest(nonce.encode())),
        hub,
        sign=lambda _: Reply(
            kind="error", nonce=digest(nonce.encode()), content=b"the site has paused"
        ).signed(signing),
        require=lambda receipt, statement: None,
    )
    (statement, _) = hub.statements
    return {
        "digest": sha256,
        "statement": digest(statement),
        "asked": asked,
        "cosignature": base64.b64encode(cosignature).decode(),
        "checkpoint": Reply.opened(statement, key=signing.public).checkpoint,
    }


def chained(lines):
    """Number lines anew and let each name the one before it, as somebody without the key can."""
    found, before = [], ""
    for n, line in enumerate(lines):
        value = json.loads(line)
        value["leaf"] |= {"n": n, "before": before}
        found.append(canonical_json(value))
        before = digest(found[-1])
    return found
