"""A coordinator with a log, and sites that watch it, in folders and without a network between them.

The coordinator may lie: it is the real ledger and the real `Cosigning`, and a second one over a
copy of the ledger shows another history.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hospitium.engines.hub.cosigning import Cosigning
from hospitium.engines.hub.messages import Ask, Reply
from hospitium.engines.hub.watching import Watch
from hospitium.plan import Plan
from hospitium.plan.schema import RoundsSection
from hospitium.state.hub_store import StoredAnswer
from hospitium.state.ledger import RunLedger
from hospitium.state.run_log import log_append
from hospitium.types import LeftOut, Result, Seat, State, Task, Update
from hospitium.wire import blob
from hospitium.wire.canonical import digest
from hospitium.wire.envelope import encode_task, encode_update
from hospitium.wire.signing import SigningKey

FEDERATION, RUN = "north", "study"
COORDINATOR = SigningKey.from_bytes(b"c" * 32)
SITES = ("bergen", "oslo", "turin")
PLAN = Plan(rounds=RoundsSection(count=9, quorum=2, deadline_s=5.0, keep_last=2))
MEMBERS = "3" * 64


def signing(site_id: str) -> SigningKey:
    return SigningKey.from_bytes(site_id.encode().ljust(32, b"."))


def params_of(number: int) -> dict[str, np.ndarray]:
    return {"w": np.full(3, number, np.float32)}


def task_of(number: int, *, params: Mapping[str, np.ndarray] | None = None, **more) -> Task:
    params = params_of(number) if params is None else params
    return Task(
        run_id=RUN,
        round_number=number,
        plan_digest=PLAN.digest,
        params=params,
        base_digest=blob.digest_of(params),
        max_norm=10.0,
        **more,
    )


class Centre:
    """A coordinator with the ledger in a folder."""

    def __init__(self, folder: Path) -> None:
        if not RunLedger.exists(folder):
            seats = [Seat(site_id=site_id, num_cases=10) for site_id in SITES]
            RunLedger.create(
                folder, run_id=RUN, plan=PLAN, seats=seats, facts={"federation": FEDERATION}
            )
        self.folder = folder
        self.ledger = RunLedger(folder)
        self.cosigning = Cosigning(self.ledger.log, key=COORDINATOR, federation=FEDERATION)
        self.task = task_of(1)

    def close(self) -> None:
        self.ledger.close()

    def copied(self, folder: Path) -> Centre:
        """Return the same coordinator with a ledger that goes another way from here on."""
        self.close()
        shutil.copytree(self.folder, folder)
        self.__init__(self.folder)
        return Centre(folder)

    def ask(
        self,
        task: Task,
        *,
        sites: Sequence[str] = SITES,
        of: Sequence[str] | None = None,
        members_digest: str = MEMBERS,
    ) -> dict[str, Ask]:
        """Open a round, log what is asked, and return what each site gets, as it reads it."""
        self.task = task
        given = list(sites if of is None else of)
        if task.purpose == "train":
            self.ledger.opened(task, sites)
        openings = self.cosigning.begin(
            task, sites=sites, members_digest=members_digest, site_ids=given
        )
        asks = {}
        for site_id in given:
            ask = Ask(
                site_id=site_id,
                task=encode_task(task),
                nonce="a" * 64,
                blob=task.base_digest,
                blob_bytes=100,
                deadline_s=5.0,
                members_digest=members_digest,
                num_sites=len(sites),
                run_key="",
                opening=openings[site_id],
            )
            envelope = ask.signed(COORDINATOR)
            asks[site_id] = Ask.opened(envelope, key=COORDINATOR.public, site_id=site_id)
        return asks

    def take(self, site_id: str, statement: bytes) -> Update:
        """Take a site's answer as the engine does, and record it."""
        key = signing(site_id).public
        reply = Reply.opened(statement, key=key)
        evidence = self.cosigning.evidence(self.stored(site_id, statement), reply, key=key)
        update = Update(
            run_id=RUN,
            round_number=self.task.round_number,
            site_id=site_id,
            plan_digest=PLAN.digest,
            base_digest=self.task.base_digest,
            num_cases=10,
            delta=change_of(site_id),
            evidence=evidence,
        )
        self.ledger.received(update)
        return update

    def stored(self, site_id: str, statement: bytes) -> StoredAnswer:
        return StoredAnswer(
            run_id=RUN,
            site_id=site_id,
            nonce="a" * 64,
            kind="update",
            statement=statement,
            sha256=digest(statement),
            found="",
        )

    def forge(self, site_id: str, statement: bytes) -> None:
        """Record an answer without looking at it, as one who lies would."""
        reply = Reply.opened(statement, key=signing(site_id).public)
        digest_ = self.ledger.store.put(change_of(site_id))
        with self.ledger._database.transaction("forged") as change:
            change.execute(
                "UPDATE seats SET status = 'accepted', digest = ?, num_cases = 10, num_steps = 1, "
                "train_s = 0, sums = '{}' WHERE round_number = ? AND site_id = ?",
                (digest_, self.task.round_number, site_id),
            )
            log_append(
                change,
                "received",
                round_number=self.task.round_number,
                site_id=site_id,
                digest=digest_,
                num_cases=10,
                statement=digest(statement),
                asked=self.ledger.log.of("asked")[-1][0],
                cosignature=base64.b64encode(reply.cosignature).decode(),
                checkpoint="",
            )

    def leave_out(self, site_id: str) -> None:
        self.ledger.left_out(self.task, LeftOut(site_id=site_id, reason="deadline"))

    def close_round(self) -> None:
        state = State(params=params_of(self.task.round_number + 1))
        accepted = frozenset(
            row["site_id"]
            for row in self.ledger.rows(
                "SELECT site_id FROM seats WHERE round_number = ? AND status = 'accepted'",
                (self.task.round_number,),
            )
        )
        result = Result(delta={}, sum_weight=1, site_ids=accepted, sums={})
        self.ledger.closed(self.task, state, result)

    def round(self, number: int, sites: Mapping[str, Site], *, of: Sequence[str] = SITES) -> None:
        """Do a whole honest round; whoever is not in it, is silent."""
        for site_id, ask in self.ask(task_of(number)).items():
            if site_id in of:
                self.take(site_id, sites[site_id].answer(ask, task_of(number)))
        self.close_round()


class Site:
    """A site that looks at what its tasks show, and cosigns."""

    def __init__(self, folder: Path, site_id: str, *, known: Sequence[str] = SITES) -> None:
        self.site_id = site_id
        self.folder = folder / site_id
        self.watch = Watch(
            self.folder,
            federation=FEDERATION,
            site_id=site_id,
            coordinator=COORDINATOR.public,
            keys=lambda: {name: [signing(name).public] for name in known},
        )
        self.last_reply = Reply(kind="update", nonce="a" * 64, content=b"")

    def answer(self, ask: Ask, task: Task) -> bytes:
        """Look, then answer."""
        seen = self.watch.look(ask, replace(task, params={}), PLAN)
        update = Update(
            run_id=RUN,
            round_number=task.round_number,
            site_id=self.site_id,
            plan_digest=PLAN.digest,
            base_digest=task.base_digest,
            num_cases=10,
            delta={},
        )
        key = signing(self.site_id)
        content = encode_update(update, blob_digest=blob.digest_of(change_of(self.site_id)))
        self.last_reply = Reply(
            kind="update",
            nonce=ask.nonce,
            content=content,
            cosignature=self.watch.cosign(seen, key=key, time=1_800_000_000),
        )
        statement = self.last_reply.signed(key)
        self.watch.sent(seen, digest(statement))
        return statement


def change_of(site_id: str) -> dict[str, np.ndarray]:
    return {"w": np.full(3, 1 + SITES.index(site_id), np.float32)}
