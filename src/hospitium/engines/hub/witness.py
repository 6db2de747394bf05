"""A site's part as a witness: it looks before it works, and cosigns what it answers."""

from __future__ import annotations

import time
from dataclasses import replace

from hospitium.engines.hub.messages import Ask, Reply
from hospitium.engines.hub.watching import SPLIT, Seen, Watch
from hospitium.errors import TrustError
from hospitium.plan import Plan
from hospitium.site.consent import REFUSALS
from hospitium.site.egress import Egress
from hospitium.types import Task
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey


class Witness:
    """Looks at what tasks show of the coordinator's log, and cosigns updates.

    Args:
        watch: What this site saw; None where there is no log to watch, as in a simulation.
        egress: The way out: a cosignature is recorded before it leaves.
        key: The site's signing key.
    """

    def __init__(self, watch: Watch | None, *, egress: Egress, key: SigningKey) -> None:
        self._watch = watch
        self._egress = egress
        self._key = key

    def look(self, ask: Ask, task: Task, plan: Plan) -> Seen | None:
        """Check what a task shows of the log before anything is done; None where none is watched.

        Raises:
            TrustError: It does not hold; see `Watch.look`.
        """
        return None if self._watch is None else self._watch.look(ask, task, plan)

    def signed(self, reply: Reply, seen: Seen | None, *, checkpoint: str) -> bytes:
        """Return a reply as it leaves: an update with the site's cosignature and checkpoint.

        Args:
            reply: What is answered.
            seen: What its task showed.
            checkpoint: Of the site's own record, with the entry of this answer.
        """
        if self._watch is None or seen is None or reply.kind == "error":
            return reply.signed(self._key)
        cosignature = self._watch.cosign(seen, key=self._key, time=int(time.time()))
        self._egress.message(
            "cosignature",
            cosignature,
            run_id=seen.asking.run_id,
            round_number=seen.asking.round_number,
            plan_digest=seen.asking.plan_digest,
            base_digest=seen.asking.base_digest,
            log_size=seen.checkpoint.size,
            log_root=seen.checkpoint.root.hex(),
        )
        statement = replace(reply, cosignature=cosignature, checkpoint=checkpoint).signed(self._key)
        self._watch.sent(seen, digest(statement))
        return statement


def public_words(error: TrustError) -> str:
    """Return what the coordinator hears of it, of the closed list `REFUSALS`."""
    return REFUSALS["split" if error.reason in SPLIT else "history"]
