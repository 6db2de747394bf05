"""A site watches the coordinator's log: what each task shows of it is checked before work begins.

The log only grows; what a round asks is in it; all sites of a round were asked the same; of those
who answered nobody's cosignature is missing. What does not hold ends this site's part in the run:
both pieces of evidence stay in its folder, for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hospitium.engines.hub.agreed import LaterError
from hospitium.engines.hub.messages import Ask
from hospitium.engines.hub.opening import ClosedRound, Opening
from hospitium.engines.hub.watched import Own, WatchedRun
from hospitium.errors import TrustError
from hospitium.plan import Plan
from hospitium.types import Task
from hospitium.wire.checkpoints import Checkpoint, coordinator_origin, open_checkpoint, read_note
from hospitium.wire.cosignatures import Asking, Cosignature, cosign, open_cosignature
from hospitium.wire.merkle import verify_consistency
from hospitium.wire.signing import SigningKey, VerifyKey

SPLIT = ("split", "members", "threshold")
"""Reasons that are about what sites are asked together; all others are about the log's history."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a task showed, verified: what is asked, as entry ``asked`` of the log."""

    asking: Asking
    checkpoint: Checkpoint
    asked: int


class Watch:
    """One site's eye on the coordinator's logs, one for each run.

    Args:
        folder: Where what was seen is kept, with a folder for each run.
        federation: Which one.
        site_id: What this site is called.
        coordinator: The coordinator's key.
        keys: Says the signing keys of each member, those of earlier member lists too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        federation: str,
        site_id: str,
        coordinator: VerifyKey,
        keys: Callable[[], Mapping[str, Sequence[VerifyKey]]],
    ) -> None:
        self._folder = folder
        self._federation = federation
        self._site_id = site_id
        self._coordinator = coordinator
        self._keys = keys

    def look(self, ask: Ask, task: Task, plan: Plan) -> Seen:
        """Check what a task shows of the coordinator's log, and remember it.

        Raises:
            TrustError: It does not hold, now or once before: this site is out of the run. Where the
                task shows nothing (``canonical``) it is only this task that is not answered.
            LaterError: It is an old task that was played again, by a proxy that kept it or by
                somebody: what it shows was seen before, and more since. It is no evidence.
        """
        run = WatchedRun(self._folder / task.run_id)
        run.require_going_on()
        opening, before = Opening.decoded(ask.opening), run.checkpoint()
        if _is_old(opening, before) and run.was_shown(opening.checkpoint):
            raise LaterError
        try:
            seen = self._verified(run, opening, ask, task, plan, before)
        except TrustError as error:
            run.stop(error, ask=ask.envelope)
            raise
        run.remember(opening.checkpoint)
        return seen

    def cosign(self, seen: Seen, *, key: SigningKey, time: int) -> bytes:
        """Return this site's cosignature of what it was shown; what it was for is kept first."""
        envelope = cosign(
            seen.asking,
            seen.checkpoint,
            asked=seen.asked,
            site_id=self._site_id,
            key=key,
            time=time,
        )
        run = WatchedRun(self._folder / seen.asking.run_id)
        run.keep(Own.of(seen.asking, asked=seen.asked))
        return envelope

    def sent(self, seen: Seen, statement_sha256: str) -> None:
        """Remember which statement left: what the log says of this site must be one of these."""
        WatchedRun(self._folder / seen.asking.run_id).sent(seen.asking, statement_sha256)

    # --- inside ---------------------------------------------------------------------------------

    def _verified(
        self,
        run: WatchedRun,
        opening: Opening,
        ask: Ask,
        task: Task,
        plan: Plan,
        before: Checkpoint | None,
    ) -> Seen:
        origin = coordinator_origin(self._federation, task.run_id)
        found = open_checkpoint(opening.checkpoint, self._coordinator, origin=origin)
        _require_goes_on(before, found, opening)
        asking = Asking.of(opening.asked.content(found))
        self._require_asked(asking, ask, task)
        if opening.asked.n != found.size - 1:
            raise TrustError("fork", "The checkpoint of a task does not end with what it asks.")
        closed = {self._closed(run, one, found, task, plan) for one in opening.closed}
        last = run.last_own(before=task.round_number)
        if last and last not in closed:
            raise TrustError(
                "gap",
                f"Round {last}: this site cosigned it, and is not shown who else did. Keep the "
                "folder as evidence, and ask the coordinating centre.",
            )
        self._take_logged(run, opening, found)
        return Seen(asking=asking, checkpoint=found, asked=opening.asked.n)

    def _require_asked(self, asking: Asking, ask: Ask, task: Task) -> None:
        """Refuse a task that is not what the log says every site is asked."""
        expected = {
            "run_id": task.run_id,
            "round_number": task.round_number,
            "purpose": task.purpose,
            "plan_digest": task.plan_digest,
            "base_digest": task.base_digest,
            "members_digest": ask.members_digest,
        }
        for name, value in expected.items():
            if getattr(asking, name) != value:
                raise TrustError(
                    "split",
                    f"Round {task.round_number}: the task has another {name} than the "
                    "coordinator's log says all sites are asked with. It was not answered.",
                )
        if self._site_id not in asking.sites or len(asking.sites) != ask.num_sites:
            raise TrustError(
                "split",
                f"Round {task.round_number}: the task speaks of {ask.num_sites} sites, the "
                f"coordinator's log of {len(asking.sites)}. It was not answered.",
            )
        if strangers := sorted(set(asking.sites) - set(self._keys())):
            raise TrustError(
                "members",
                f"Round {task.round_number}: {', '.join(strangers)} is asked too, and is on no "
                "member list that this site has seen. It was not answered.",
            )

    def _closed(
        self, run: WatchedRun, closed: ClosedRound, found: Checkpoint, task: Task, plan: Plan
    ) -> int:
        """Check who answered in a closed round, and that all saw the same; return its number."""
        leaf = closed.entry.content(found)
        number, answered = _number(leaf), leaf.get("answered")
        if leaf.get("kind") != "round_closed" or not isinstance(answered, list):
            raise TrustError("fork", "An entry that closes no round was shown as one that does.")
        if not all(isinstance(name, str) for name in answered) or answered != sorted(set(answered)):
            raise TrustError("fork", "A round was shown in which somebody answered twice.")
        where = f"Round {number} of {task.run_id}"
        if len(answered) < plan.rounds.quorum:
            raise TrustError(
                "threshold",
                f"{where} was closed with {len(answered)} updates; the plan's quorum is "
                f"{plan.rounds.quorum}. A model of fewer sites is not trained on here.",
            )
        keys = self._keys()
        shown = [
            open_cosignature(one.envelope, *keys.get(one.site_id, ()), site_id=one.site_id)
            for one in closed.cosignatures
        ]
        if [one.site_id for one in shown] != answered:
            raise TrustError("gap", f"{where}: not everybody who answered is shown to cosign it.")
        for one, row in zip(shown, closed.cosignatures, strict=True):
            _require_about(one, where, number=number, task=task, leaf=leaf)
            verify_consistency(
                old=one.size,
                new=found.size,
                old_root=bytes.fromhex(one.root),
                new_root=found.root,
                proof=row.proof,
            )
        _require_alike([run.own(number), *map(Own.of_cosignature, shown)], where)
        return number

    def _take_logged(self, run: WatchedRun, opening: Opening, found: Checkpoint) -> None:
        """Keep the proof that this site's last answer is in the log, if it is what was sent."""
        if opening.mine is None:
            return
        leaf = opening.mine.content(found)
        number = _number(leaf)
        own = run.own(number)
        if leaf.get("site_id") != self._site_id or leaf.get("kind") != "received":
            raise TrustError("fork", "Another site's entry was shown as this one's.")
        if own is not None and own.statements and leaf.get("statement") not in own.statements:
            raise TrustError(
                "fork",
                f"Round {number}: the coordinator's log has an answer in this site's name that is "
                "not the one that this site sent. Keep the folder as evidence, call the officers.",
            )
        run.take_logged(number, opening.mine, checkpoint=opening.checkpoint)


def _number(leaf: Mapping[str, Any]) -> int:
    """Return the round of an entry.

    Raises:
        TrustError: It has none.
    """
    number = leaf.get("round_number")
    if type(number) is not int or not 0 < number < 1 << 53:
        raise TrustError("fields", "An entry of no round was shown as one of a round.")
    return number


def _is_old(opening: Opening, before: Checkpoint | None) -> bool:
    """Whether a task shows less of the log than was seen already."""
    try:
        return before is not None and read_note(opening.checkpoint)[0].size < before.size
    except (TrustError, ValueError):
        return False


def _require_goes_on(before: Checkpoint | None, found: Checkpoint, opening: Opening) -> None:
    """Refuse a log that does not go on from the one that this site was shown last."""
    if before is None:
        return
    proof = [] if before.size >= found.size else opening.earlier.get(before.size)
    if proof is None:
        raise TrustError(
            "gap",
            f"The coordinator does not show that its log of {found.size} entries goes on from the "
            f"{before.size} that this site saw. Keep the folder as evidence, and ask it.",
        )
    verify_consistency(
        old=before.size, new=found.size, old_root=before.root, new_root=found.root, proof=proof
    )


def _require_about(
    one: Cosignature, where: str, *, number: int, task: Task, leaf: Mapping[str, Any]
) -> None:
    """Refuse a cosignature of something else than training in this round, on this model."""
    is_replayed = (one.run_id, one.round_number, one.purpose) != (task.run_id, number, "train")
    if is_replayed or one.plan_digest != task.plan_digest:
        raise TrustError(
            "fork", f"{where}: the cosignature of {one.site_id} is of another round, run or plan."
        )
    if one.base_digest != leaf.get("base_digest"):
        raise TrustError("split", _split(where, one.site_id))


def _require_alike(owns: Sequence[Own | None], where: str) -> None:
    """Refuse a round in which not all trained the same model, or were told the same of it."""
    known = [own for own in owns if own is not None]
    for own in known:
        for other in known:
            is_told_alike = own.asked != other.asked or own.told == other.told
            if own.base_digest != other.base_digest or not is_told_alike:
                raise TrustError("split", _split(where, "another site"))


def _split(where: str, site_id: str) -> str:
    return (
        f"{where}: {site_id} was asked with another model, member list or set of sites. The "
        "coordinator must ask all alike. This site answers no task of this run any more. Keep the "
        "folder as evidence, and call the officers."
    )
