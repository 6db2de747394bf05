"""The ledger of one run: SQLite for what happened, the store for params; resume is its purpose.

The order of writes is the guarantee. A blob is there before the row that names it is committed,
and is deleted only after the row that stops naming it is. So a crash can leave a file too many,
never one too few, and `Store.keep_only` sweeps up at the next start. What a round made is synced;
an update of an open round may be torn by a power cut, and then its site is asked again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from hospitium.errors import StateConflictError
from hospitium.state import seats
from hospitium.state.beginning import as_json as _json
from hospitium.state.beginning import begin_run
from hospitium.state.holding import excluded_of, leave_out_held
from hospitium.state.record import Chosen, RunRecord
from hospitium.state.run_log import log_append
from hospitium.state.run_log import utc_text as _now
from hospitium.state.sums_text import read_sums, sums_text
from hospitium.state.vacating import ask_again, strike
from hospitium.types import LeftOut, Result, Seat, State, Sums, Task, Update


class RunLedger(RunRecord):
    """The durable record of one run in its folder; one process at a time holds it.

    Args:
        folder: The run's folder, made by `create`.
        score_of: Validation metric of the params that these sums were measured on, higher is
            better; None where it cannot be computed. It decides which params are the best ones.
    """

    def __init__(
        self, folder: Path, *, score_of: Callable[[Sums], float | None] = lambda sums: None
    ) -> None:
        super().__init__(folder)
        self.score_of = score_of

    create = staticmethod(begin_run)

    def resume(self) -> tuple[State, int] | None:
        """Return the state after the last closed round and its number; None before round 1."""
        if self._round(1) is None:
            return None
        last = self._last_closed()
        with self._database.transaction("resumed") as change:
            change.execute("INSERT INTO interruptions VALUES (?, ?)", (_now(), self.last_closed))
        if last is None:
            return None
        self.store.keep_only(self._wanted())
        return self._state(last), last["round_number"]

    def opened(self, task: Task, site_ids: Sequence[str]) -> Sequence[str]:
        """Open a round, or go on with it; return the sites that have not been answered for.

        A site counts as such again whose accepted params are torn or gone.
        """
        number = task.round_number
        found = self._round(number)
        if found is None:
            self.store.put(task.params, digest=task.base_digest)
            with self._database.transaction("opened") as change:
                seats.open_round(change, task, site_ids)
        elif found["status"] != "open" or found["base_digest"] != task.base_digest:
            raise StateConflictError(
                f"Round {number} of {self.run_id} cannot be opened: it is {found['status']} on "
                f"params {found['base_digest'][:12]}…, asked for {task.base_digest[:12]}…. Nothing "
                "was changed. Another process may have gone on with this run."
            )
        else:
            with self._database.transaction("opened again") as change:
                seats.ask_too(change, number, site_ids)
                for row in self._seats(number, "accepted"):
                    if row["digest"] and self.store.drop_torn(row["digest"]):
                        ask_again(change, number, row["site_id"])
        rows = self._seats(number, "asked")
        return [row["site_id"] for row in rows]

    def answered(self, task: Task) -> Iterator[Update]:
        """Yield the updates that were accepted before an interruption, by site."""
        for row in self._seats(task.round_number, "accepted"):
            yield Update(
                run_id=task.run_id,
                round_number=task.round_number,
                site_id=row["site_id"],
                plan_digest=task.plan_digest,
                base_digest=task.base_digest,
                num_cases=row["num_cases"],
                delta=self.store.get(row["digest"]),
                sums=read_sums(row["sums"]),
                num_steps=row["num_steps"],
                train_s=row["train_s"],
            )

    def received(self, update: Update) -> None:
        """Record an accepted update, durably: its blob, then its row."""
        digest = self._keep(update)
        with self._database.transaction("received") as change:
            seats.accept(change, update, digest=digest)

    def refused(self, task: Task, refused: LeftOut) -> None:
        """Record that something in a site's name was refused; its seat stays open meanwhile."""
        with self._database.transaction("refused") as change:
            seats.refuse(change, task.round_number, refused)

    def left_out(self, task: Task, left_out: LeftOut) -> None:
        """Record that a site gives no update in this round, and why."""
        with self._database.transaction("left out") as change:
            seats.leave_out(change, task.round_number, left_out)

    def struck(self, task: Task, gone: Sequence[LeftOut]) -> Sequence[LeftOut]:
        """Leave out whoever of these was accepted in this open round; return them.

        Their updates are deleted when the round is closed, as all others are.
        """
        accepted = {row["site_id"] for row in self._seats(task.round_number, "accepted")}
        found = [left_out for left_out in gone if left_out.site_id in accepted]
        if not found:
            return found
        with self._database.transaction("struck") as change:
            for left_out in found:
                strike(change, task.round_number, left_out.site_id, reason=left_out.reason)
        return found

    def closed(self, task: Task, state: State, result: Result) -> State:
        """Close a round: params to the store, one commit, and only then deletions."""
        number = task.round_number
        digest = self.store.put(state.params)
        slots = {name: self.store.put(params) for name, params in state.slots.items()}
        with self._database.transaction("closed") as change:
            seats.leave_out_silent(change, number)
            leave_out_held(change, number)
            seats.require_accepted(change, number, result.site_ids)
            change.execute(
                "UPDATE rounds SET score = ? WHERE round_number = ?",
                (self._finite_score(result.sums), number - 1),
            )
            change.change_one(
                "UPDATE rounds SET status = 'closed', params_digest = ?, slots = ?, memory = ?, "
                "sums = ?, sum_weight = ?, closed_utc = ? "
                "WHERE round_number = ? AND status = 'open'",
                (
                    digest,
                    _json(slots),
                    _json(state.memory),
                    sums_text(result.sums),
                    result.sum_weight,
                    _now(),
                    number,
                ),
                what=f"Closing round {number}",
            )
            seats.log_closed(change, task, params_digest=digest, slots=slots)
        self.store.keep_only(self._wanted())
        return replace(state, params_digest=digest)

    def below_quorum(self, task: Task) -> Sequence[LeftOut]:
        """Record a round that could not be closed, and open its seats for the next attempt."""
        with self._database.transaction("below quorum") as change:
            without = seats.begin_again(change, task.round_number)
            return [*without, *excluded_of(change, task.round_number)]

    def seated(self, seat: Seat, *, from_round: int) -> None:
        """Give a site a seat from a round on, or its seat another number of cases.

        Raises:
            StateConflictError: A round from there on is closed. Nothing was changed.
        """
        with self._database.transaction("seated") as change:
            change.execute(
                "INSERT OR REPLACE INTO late_seats (site_id, num_cases, from_round) "
                "VALUES (?, ?, ?)",
                (seat.site_id, seat.num_cases, from_round),
            )
            log_append(
                change,
                "seated",
                site_id=seat.site_id,
                num_cases=seat.num_cases,
                from_round=from_round,
            )

    # --- how a run ends --------------------------------------------------------------------

    def scored(self, round_number: int, sums: Sums) -> None:
        """Record the validation metric of the params that the last round made."""
        with self._database.transaction("scored") as change:
            change.execute(
                "UPDATE rounds SET score = ? WHERE round_number = ? AND score IS NULL",
                (self._finite_score(sums), round_number),
            )

    def scored_by_site(self, digest: str, by_site: Mapping[str, Sums]) -> None:
        """Record what each site measured of params after the last round, in place of before.

        Raises:
            StateConflictError: The run is over: another coordinator ended it. Nothing was changed.
        """
        with self._database.transaction("scored by site") as change:
            change.change_one(
                "UPDATE run SET status = 'running' WHERE status = 'running'",
                (),
                what=f"Scoring the params of {self.run_id}",
            )
            change.execute("DELETE FROM last_scores WHERE digest = ?", (digest,))
            for site_id, sums in sorted(by_site.items()):
                change.execute(
                    "INSERT INTO last_scores VALUES (?, ?, ?)", (digest, site_id, sums_text(sums))
                )

    def finished(self, chosen: Chosen) -> None:
        """Record which params are the result, and that the run is done."""
        with self._database.transaction("finished") as change:
            change.change_one(
                "UPDATE run SET status = 'finished', chosen = ? WHERE status = 'running'",
                (_json(asdict(chosen)),),
                what=f"Finishing {self.run_id}",
            )
            log_append(
                change,
                "finished",
                round_number=chosen.round_number,
                slot=chosen.slot,
                digest=chosen.digest,
            )
        self.store.keep_only(self._wanted())

    # --- inside ----------------------------------------------------------------------------

    def _keep(self, update: Update) -> str | None:
        """Bring an update's params into the store; a score-only answer has none."""
        if not update.delta:
            return None
        if update.path is not None:
            digest = Path(update.path).name.partition(".")[0]
            self.store.adopt(Path(update.path), digest)
            return digest
        return self.store.put(update.delta)

    def _wanted(self) -> set[str]:
        """Return the digests that the ledger still needs."""
        last, chosen = self.last_closed, self.chosen()
        keep = {last - back for back in range(self.plan.rounds.keep_last)} | {self.best_round()}
        wanted = {chosen.digest} if chosen else set()
        rows = self._database.rows(
            "SELECT status, base_digest, params_digest, slots FROM rounds WHERE status = 'open' "
            "OR round_number IN (SELECT value FROM json_each(?))",
            (_json(sorted(keep)),),
        )
        for row in rows:
            if row["status"] == "open":
                wanted.add(row["base_digest"])
            else:
                wanted |= {row["params_digest"], *json.loads(row["slots"]).values()}
        open_updates = self._database.rows(
            "SELECT digest FROM seats WHERE digest IS NOT NULL AND round_number IN "
            "(SELECT round_number FROM rounds WHERE status = 'open')"
        )
        return wanted | {row["digest"] for row in open_updates}

    def _finite_score(self, sums: Sums) -> float | None:
        score = self.score_of(sums)
        return score if score is not None and math.isfinite(score) else None
