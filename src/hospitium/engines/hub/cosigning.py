"""The coordinator's side of its log: what a task carries of it, and what an answer must bring.

Before a round asks, what it asks and whom is an entry of the log. Each task carries the checkpoint
that ends with this entry, so that asking the same again carries the same checkpoint. An update
comes with its site's cosignature of such a checkpoint; the next task shows it to the other sites.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.messages import Reply, is_update
from hospitium.engines.hub.opening import ClosedRound, Logged, Opening, Shown
from hospitium.errors import TrustError, UpdateError
from hospitium.state.hub_store import StoredAnswer
from hospitium.state.run_log import RunLog
from hospitium.types import Json, Task
from hospitium.wire.checkpoints import (
    Checkpoint,
    coordinator_origin,
    open_checkpoint,
    sign_checkpoint,
    site_origin,
)
from hospitium.wire.cosignatures import Asking, Cosignature, open_cosignature
from hospitium.wire.envelope import decode_update
from hospitium.wire.signing import SigningKey, VerifyKey

UNANSWERED = 16
"""How many rounds a site is shown in which it was asked and did not count: it may have cosigned."""

EARLIER = 32
"""From how many earlier askings of a site a task proves itself: it may have seen any of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """Entry ``n`` of an answer, which was cosigned under the asking of entry ``asked``."""

    n: int
    asked: int


@dataclass(kw_only=True)
class _Past:
    """Where in the log is what tasks carry; it grows with the log, and is small."""

    size: int = 0
    closed: dict[int, int] = field(default_factory=dict)
    askings: dict[str, list[int]] = field(default_factory=dict)
    asked_in: dict[str, set[int]] = field(default_factory=dict)
    answers: dict[int, dict[str, _Answer]] = field(default_factory=dict)

    def catch_up(self, log: RunLog) -> None:
        """Take in the entries that came since."""
        for n, data in log.entries(start=self.size):
            leaf = json.loads(data)
            if leaf["kind"] == "round_closed":
                self.closed[leaf["round_number"]] = n
            elif leaf["kind"] == "asked":
                for site_id in leaf["sites"]:
                    self.askings.setdefault(site_id, []).append(n)
                    self.asked_in.setdefault(site_id, set()).add(leaf["round_number"])
            elif leaf["kind"] == "received" and "cosignature" in leaf:
                answer = _Answer(n=n, asked=leaf["asked"])
                self.answers.setdefault(leaf["round_number"], {})[leaf["site_id"]] = answer
            self.size = n + 1

    def last_closed(self, before: int) -> int:
        """Return the last round that was closed before an entry; 0 for none."""
        return max((number for number, n in self.closed.items() if n < before), default=0)

    def unanswered(self, site_id: str, *, after: int, before: int) -> list[int]:
        """Return closed rounds after one in which a site was asked: the last of them."""
        asked = self.asked_in.get(site_id, set())
        found = [n for n in sorted(asked) if n > after and self.closed.get(n, before) < before]
        return found[-UNANSWERED:]

    def last_of(self, site_id: str, before: int) -> tuple[int, _Answer | None]:
        """Return the last closed round in which a site answered before an entry, and the answer."""
        for number in sorted(self.closed, reverse=True):
            answer = self.answers.get(number, {}).get(site_id)
            if answer is not None and self.closed[number] < before:
                return number, answer
        return 0, None


class Cosigning:
    """What one run's log and the messages of its sites have to do with one another.

    `begin` is called by the thread that holds the ledger; `evidence` by any, in between.

    Args:
        log: Of the run.
        key: The coordinator's signing key.
        federation: Which one.
    """

    def __init__(self, log: RunLog, *, key: SigningKey, federation: str) -> None:
        self._log = log
        self._key = key
        self._federation = federation
        self._past = _Past()
        self._askings: dict[int, tuple[Asking, Checkpoint]] = {}
        self._accepted: Mapping[str, Mapping[str, Any]] = {}
        self._second: list[StoredAnswer] = []
        self._round_number = 0
        self._shown: dict[tuple[int, int], ClosedRound] = {}
        self._proofs: dict[tuple[int, int], list[bytes]] = {}

    def begin(
        self, task: Task, *, sites: Sequence[str], members_digest: str, site_ids: Sequence[str]
    ) -> dict[str, bytes]:
        """Log what is asked, unless it is logged; return what the task of each site carries.

        Args:
            task: What is asked.
            sites: All that are asked in this round.
            members_digest: Of the member list in force.
            site_ids: Who is given the task now: some of these sites.
        """
        asking = Asking(
            run_id=task.run_id,
            round_number=task.round_number,
            purpose=task.purpose,
            plan_digest=task.plan_digest,
            base_digest=task.base_digest,
            members_digest=members_digest,
            sites=tuple(sorted(sites)),
        )
        n = self._log.asked(asking.fields)
        self._round_number = task.round_number
        self._accepted = self._log.accepted(task.round_number)
        self._past.catch_up(self._log)
        self._shown.clear()
        self._proofs.clear()
        self._askings = {
            number: (found, self._checkpoint(task.run_id, number + 1))
            for number, leaf in self._log.of("asked", round_number=task.round_number)
            if (found := Asking.of(leaf)).base_digest == task.base_digest
        }
        return {site_id: self._opening(site_id, n).encoded() for site_id in site_ids}

    def evidence(self, stored: StoredAnswer, reply: Reply, *, key: VerifyKey) -> dict[str, Json]:
        """Return what the log holds of an answer, once its signatures are known to hold.

        Args:
            stored: The answer.
            reply: The same, read.
            key: The site's signing key.

        Raises:
            UpdateError: It is not cosigned (``signature``), something else is (``round``,
                ``base``), or another update was once accepted in its place (``seat_conflict``).
        """
        site_id = stored.site_id
        try:
            found = open_cosignature(reply.cosignature, key, site_id=site_id)
            if reply.checkpoint:
                origin = site_origin(self._federation, site_id)
                open_checkpoint(reply.checkpoint, key, origin=origin)
        except TrustError as error:
            raise UpdateError("signature", f"{site_id} did not cosign: {error}") from error
        self._require_asked(found)
        self._require_same(stored, reply)
        return {
            "statement": stored.sha256,
            "asked": found.asked,
            "cosignature": base64.b64encode(reply.cosignature).decode(),
            "checkpoint": reply.checkpoint,
        }

    def keep_conflicts(self, backend: Backend, nonce: str, *, site_ids: Set[str]) -> None:
        """Keep all updates of each site that gave different ones to one task; log it.

        The hub has verified whose they are. Words about an error are no update.
        """
        first = {one.site_id: one for one in backend.answers(nonce, after=0, wait_s=0.0)}
        for site_id in sorted(site_ids & set(first)):
            found = {first[site_id].sha256: first[site_id].statement}
            for place, sha256 in backend.conflicts(site_id):
                if place == nonce:
                    found[sha256] = backend.conflicting(site_id, nonce, sha256)
            found = {sha256: one for sha256, one in found.items() if is_update(one)}
            if len(found) > 1:
                self._log.conflict(self._round_number, site_id, found)
        for stored in self._second:
            before = str(self._accepted[stored.site_id]["statement"])
            found = {before: b"", stored.sha256: stored.statement}
            self._log.conflict(self._round_number, stored.site_id, found)
        self._second.clear()

    # --- inside ---------------------------------------------------------------------------------

    def _require_same(self, stored: StoredAnswer, reply: Reply) -> None:
        """Refuse another update than the one that was once accepted in this place."""
        before = self._accepted.get(stored.site_id)
        _, promised = decode_update(reply.content)
        if before is not None and before["digest"] != promised:
            self._second.append(stored)
            raise UpdateError(
                "seat_conflict",
                f"{stored.site_id} sent another update than the one that was accepted before.",
            )

    def _require_asked(self, found: Cosignature) -> None:
        """Refuse a cosignature of anything but what this round asks."""
        if found.asked not in self._askings:
            raise UpdateError("round", f"{found.site_id} cosigned what this round did not ask.")
        asking, checkpoint = self._askings[found.asked]
        if not found.says(asking) or found.checkpoint != checkpoint:
            raise UpdateError("base", f"{found.site_id} cosigned another model, list or log.")

    def _checkpoint(self, run_id: str, size: int) -> Checkpoint:
        origin = coordinator_origin(self._federation, run_id)
        return Checkpoint(origin=origin, size=size, root=self._log.tree().root(size))

    def _opening(self, site_id: str, asked: int) -> Opening:
        """Return what one site is shown with the asking of this number."""
        past, (_, checkpoint) = self._past, self._askings[asked]
        number, mine = past.last_of(site_id, asked)
        unanswered = past.unanswered(site_id, after=number, before=asked)
        rounds = {past.last_closed(asked), number, *unanswered} - {0}
        sizes = {n + 1 for n in past.askings[site_id] if n < asked}
        wanted = set(sorted(sizes)[-EARLIER:]) | ({mine.asked + 1} if mine else set())
        return Opening(
            checkpoint=sign_checkpoint(checkpoint, self._key),
            asked=self._logged(asked, checkpoint.size),
            earlier={size: self._consistency(size, checkpoint.size) for size in wanted},
            closed=[self._closed(number, checkpoint.size) for number in sorted(rounds)],
            mine=self._logged(mine.n, checkpoint.size) if mine else None,
        )

    def _closed(self, number: int, size: int) -> ClosedRound:
        """Return a closed round with the cosignatures of who answered in it, the same for all."""
        if found := self._shown.get((number, size)):
            return found
        entry = self._logged(self._past.closed[number], size)
        answers = self._past.answers.get(number, {})
        shown = []
        for site_id in json.loads(entry.data)["answered"]:
            if answer := answers.get(site_id):
                leaf = json.loads(self._log.entry(answer.n))
                envelope = base64.b64decode(leaf["cosignature"])
                proof = self._consistency(answer.asked + 1, size)
                shown.append(Shown(site_id=site_id, envelope=envelope, proof=proof))
        self._shown[number, size] = ClosedRound(entry=entry, cosignatures=shown)
        return self._shown[number, size]

    def _consistency(self, old: int, new: int) -> list[bytes]:
        if (old, new) not in self._proofs:
            self._proofs[old, new] = self._log.tree().consistency_proof(old, new)
        return self._proofs[old, new]

    def _logged(self, n: int, size: int) -> Logged:
        proof = self._log.tree().inclusion_proof(n, size)
        return Logged(n=n, data=self._log.entry(n), proof=proof)
