"""The ledger of one run: SQLite for what happened, the store for params; resume is its purpose.

The order of writes is the guarantee. A blob is durable before the row that names it is committed,
and is deleted only after the row that stops naming it is. So a crash can leave a file too many,
never one too few, and `Store.keep_only` sweeps up at the next start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.errors import StateConflictError, UnknownRunError, VersionError
from hospitium.plan import Plan
from hospitium.plan.reading import plan_from_dict
from hospitium.state import durable
from hospitium.state.database import Database, Transaction
from hospitium.state.store import Store
from hospitium.types import Json, LeftOut, Result, Seat, State, Sums, Task, Update

NO_ANSWER = "no_answer"
"""Why a site is left out that was asked and never heard of again."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The params that a run comes to: of which round, of which kind, under which digest, and why.

    ``slot`` is ``"params"`` or the name of a slot of the state, such as ``"ema"``; ``threshold``
    is the operating point for two classes, from validation cases; None where there is none.
    ``sums`` are the validation sums that the threshold and the choice were made on.
    """

    round_number: int
    slot: str
    digest: str
    reason: str
    threshold: float | None
    sums: Mapping[str, Sequence[int]]


class RunLedger:
    """The durable record of one run in its folder; one process at a time holds it.

    Args:
        folder: The run's folder, made by `create`.
        score_of: Validation metric of the params that these sums were measured on, higher is
            better; None where it cannot be computed. It decides which params are the best ones.
    """

    def __init__(
        self, folder: Path, *, score_of: Callable[[Sums], float | None] = lambda sums: None
    ) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self._database = Database(folder / "ledger.sqlite")
        self.score_of = score_of
        rows = self._database.rows("SELECT * FROM run")
        if not rows:
            self._database.close()
            raise UnknownRunError(
                f"{folder.name}: the run was never begun: its first entry is missing. Nothing was "
                "changed. Start it again."
            )
        row = rows[0]
        self.run_id: str = row["run_id"]
        self.plan: Plan = plan_from_dict(json.loads(row["plan"]), where=f"ledger of {self.run_id}")
        if self.plan.digest != row["plan_digest"]:
            self._database.close()
            raise VersionError(
                f"{folder.name}: its plan was written by another version of Hospitium (digest "
                f"{row['plan_digest'][:12]}… found, {self.plan.digest[:12]}… now). Nothing was "
                "changed. Use the version that began the run, or start the run anew."
            )
        self.seats = tuple(
            Seat(site_id=site_id, num_cases=num_cases)
            for site_id, num_cases in json.loads(row["seats"])
        )
        self.facts: Mapping[str, Json] = json.loads(row["facts"])
        self.created = datetime.fromisoformat(row["created_utc"])

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        run_id: str,
        plan: Plan,
        seats: Sequence[Seat],
        facts: Mapping[str, Json],
    ) -> None:
        """Write the first entry of a run: who will take part in what.

        Raises:
            StateConflictError: There is a run in this folder already.
        """
        durable.make_folder(folder)
        database = Database(folder / "ledger.sqlite")
        try:
            if database.rows("SELECT 1 FROM run"):
                raise StateConflictError(
                    f"{run_id}: there is a run of this name already. Nothing was changed. "
                    f"Go on with it by `hospitium run resume {run_id}`, or choose another name."
                )
            with database.transaction("created") as change:
                change.execute(
                    "INSERT INTO run (id, run_id, plan, plan_digest, seats, facts, created_utc) "
                    "VALUES (1, ?, ?, ?, ?, ?, ?)",
                    (
                        run_id,
                        plan.canonical,
                        plan.digest,
                        _json([[seat.site_id, seat.num_cases] for seat in seats]),
                        _json(facts),
                        _now(),
                    ),
                )
        finally:
            database.close()

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the first entry of a run was committed in this folder."""
        if not (folder / "ledger.sqlite").is_file():
            return False
        database = Database(folder / "ledger.sqlite")
        try:
            return bool(database.rows("SELECT 1 FROM run"))
        finally:
            database.close()

    def close(self) -> None:
        """Close the database; safe to call twice."""
        self._database.close()

    # --- the protocol of the spine ---------------------------------------------------------

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
        """Open a round, or go on with it; return the sites that have not been answered for."""
        number = task.round_number
        found = self._round(number)
        if found is None:
            self.store.put(task.params, digest=task.base_digest)
            with self._database.transaction("opened") as change:
                self._insert_round(change, task)
                for site_id in sorted(site_ids):
                    change.execute(
                        "INSERT INTO seats (round_number, site_id, status) VALUES (?, ?, 'asked')",
                        (number, site_id),
                    )
        elif found["status"] != "open" or found["base_digest"] != task.base_digest:
            raise StateConflictError(
                f"Round {number} of {self.run_id} cannot be opened: it is {found['status']} on "
                f"params {found['base_digest'][:12]}…, asked for {task.base_digest[:12]}…. Nothing "
                "was changed. Another process may have gone on with this run."
            )
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
                sums={name: tuple(values) for name, values in json.loads(row["sums"]).items()},
                num_steps=row["num_steps"],
                train_s=row["train_s"],
            )

    def received(self, update: Update) -> None:
        """Record an accepted update, durably: its blob, then its row."""
        digest = self._keep(update)
        with self._database.transaction("received") as change:
            change.change_one(
                "UPDATE seats SET status = 'accepted', digest = ?, num_cases = ?, num_steps = ?, "
                "train_s = ?, sums = ? WHERE round_number = ? AND site_id = ? AND status = 'asked'",
                (
                    digest,
                    update.num_cases,
                    update.num_steps,
                    update.train_s,
                    _json(update.sums),
                    update.round_number,
                    update.site_id,
                ),
                what=f"Accepting the update of {update.site_id}",
            )

    def refused(self, task: Task, refused: LeftOut) -> None:
        """Record that something in a site's name was refused; its seat stays open meanwhile."""
        with self._database.transaction("refused") as change:
            change.execute(
                "INSERT OR IGNORE INTO refusals SELECT ?, attempt, ?, ? FROM rounds "
                "WHERE round_number = ?",
                (task.round_number, refused.site_id, refused.reason, task.round_number),
            )

    def left_out(self, task: Task, left_out: LeftOut) -> None:
        """Record that a site gives no update in this round, and why."""
        with self._database.transaction("left out") as change:
            change.execute(
                "UPDATE seats SET status = 'left_out', reason = ? "
                "WHERE round_number = ? AND site_id = ? AND status = 'asked'",
                (left_out.reason, task.round_number, left_out.site_id),
            )

    def closed(self, task: Task, state: State, result: Result) -> None:
        """Close a round: params to the store, one commit, and only then deletions."""
        number = task.round_number
        digest = self.store.put(state.params)
        slots = {name: self.store.put(params) for name, params in state.slots.items()}
        with self._database.transaction("closed") as change:
            self._close_seats(change, number)
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
                    _json(result.sums),
                    result.sum_weight,
                    _now(),
                    number,
                ),
                what=f"Closing round {number}",
            )
        self.store.keep_only(self._wanted())

    def below_quorum(self, task: Task) -> Sequence[LeftOut]:
        """Record a round that could not be closed, and open its seats for the next attempt."""
        number = task.round_number
        with self._database.transaction("below quorum") as change:
            self._close_seats(change, number)
            rows = self._seats(number, "left_out")
            for row in rows:
                change.execute(
                    "INSERT OR IGNORE INTO refusals SELECT ?, attempt, ?, ? FROM rounds "
                    "WHERE round_number = ?",
                    (number, row["site_id"], row["reason"], number),
                )
            change.execute(
                "UPDATE seats SET status = 'asked', reason = NULL "
                "WHERE round_number = ? AND status = 'left_out'",
                (number,),
            )
            change.execute(
                "UPDATE rounds SET attempt = attempt + 1 WHERE round_number = ?", (number,)
            )
        return [LeftOut(site_id=row["site_id"], reason=row["reason"]) for row in rows]

    # --- what operations ask for -----------------------------------------------------------

    def scored(self, round_number: int, sums: Sums) -> None:
        """Record the validation metric of the params that the last round made."""
        with self._database.transaction("scored") as change:
            change.execute(
                "UPDATE rounds SET score = ? WHERE round_number = ? AND score IS NULL",
                (self._finite_score(sums), round_number),
            )

    def finished(self, chosen: Chosen) -> None:
        """Record which params are the result, and that the run is done."""
        with self._database.transaction("finished") as change:
            change.change_one(
                "UPDATE run SET status = 'finished', chosen = ? WHERE status = 'running'",
                (_json(asdict(chosen)),),
                what=f"Finishing {self.run_id}",
            )
        self.store.keep_only(self._wanted())

    def chosen(self) -> Chosen | None:
        """Return which params are the result of this run; None before it is finished."""
        text = self._database.rows("SELECT chosen FROM run")[0]["chosen"]
        if not text:
            return None
        fields = json.loads(text)
        sums = {name: tuple(values) for name, values in fields["sums"].items()}
        return Chosen(**{**fields, "sums": sums})

    @property
    def is_finished(self) -> bool:
        """Whether the run is done."""
        return bool(self._database.rows("SELECT status FROM run")[0]["status"] == "finished")

    @property
    def last_closed(self) -> int:
        """The number of the last closed round; 0 before the first."""
        last = self._last_closed()
        return 0 if last is None else int(last["round_number"])

    def best_round(self) -> int:
        """Return the round whose params scored best on validation; the last one if none was."""
        rows = self._database.rows(
            "SELECT round_number FROM rounds WHERE status = 'closed' AND score IS NOT NULL "
            "AND round_number > 0 ORDER BY score DESC, round_number DESC LIMIT 1"
        )
        return int(rows[0]["round_number"]) if rows else self.last_closed

    def best_score(self) -> float | None:
        """Return the best validation score of any round; higher is better."""
        best: float | None = self._database.rows("SELECT max(score) AS best FROM rounds")[0]["best"]
        return best

    def state_after(self, round_number: int) -> State:
        """Return the state that a round made, where its params are still kept.

        Raises:
            CorruptedError: They are not kept (any more).
        """
        row = self._round(round_number)
        assert row is not None and row["status"] == "closed", round_number
        return self._state(row)

    def digests_after(self, round_number: int) -> dict[str, str]:
        """Return the digest of each kind of params that a closed round made."""
        row = self._round(round_number)
        assert row is not None and row["status"] == "closed", round_number
        return {"params": row["params_digest"], **json.loads(row["slots"])}

    def record(self) -> dict[str, Any]:
        """Return all that happened but times and interruptions: what a resumed run must equal."""
        rounds = self._database.rows(
            "SELECT round_number, status, attempt, base_digest, max_norm, params_digest, slots, "
            "memory, sums, sum_weight, score FROM rounds ORDER BY round_number"
        )
        seats = self._database.rows(
            "SELECT round_number, site_id, status, reason, digest, num_cases, num_steps, sums "
            "FROM seats ORDER BY round_number, site_id"
        )
        refusals = self._database.rows("SELECT * FROM refusals ORDER BY 1, 2, 3, 4")
        run = self._database.rows("SELECT run_id, plan_digest, seats, status, chosen FROM run")
        return {
            "run": dict(run[0]),
            "rounds": [dict(row) for row in rounds],
            "seats": [dict(row) for row in seats],
            "refusals": [dict(row) for row in refusals],
            "blobs": sorted(self.store.digests()),
        }

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query, for the functions of `state.history` only."""
        return [dict(row) for row in self._database.rows(sql, values)]

    # --- inside ----------------------------------------------------------------------------

    def _keep(self, update: Update) -> str | None:
        """Bring an update's params into the store; a score-only answer has none."""
        if not update.delta:
            return None
        if update.path is not None:
            digest = Path(update.path).stem
            self.store.adopt(Path(update.path), digest)
            return digest
        return self.store.put(update.delta)

    def _insert_round(self, change: Transaction, task: Task) -> None:
        change.execute(
            "INSERT INTO rounds (round_number, status, base_digest, max_norm, opened_utc) "
            "VALUES (?, 'open', ?, ?, ?)",
            (task.round_number, task.base_digest, task.max_norm, _now()),
        )

    def _close_seats(self, change: Transaction, number: int) -> None:
        """Leave out whoever is still asked: with the reason of the last refusal, or no answer."""
        change.execute(
            "UPDATE seats SET status = 'left_out', reason = coalesce((SELECT max(reason) FROM "
            "refusals JOIN rounds USING (round_number, attempt) WHERE refusals.round_number = "
            "seats.round_number AND refusals.site_id = seats.site_id), ?) "
            "WHERE round_number = ? AND status = 'asked'",
            (NO_ANSWER, number),
        )

    def _wanted(self) -> set[str]:
        """Return the digests that the ledger still needs."""
        last, chosen = self.last_closed, self.chosen()
        keep = {last - back for back in range(self.plan.rounds.keep_last)} | {self.best_round()}
        wanted = {chosen.digest} if chosen else set()
        for row in self._database.rows("SELECT * FROM rounds"):
            if row["status"] == "open":
                wanted.add(row["base_digest"])
            elif row["round_number"] in keep:
                wanted |= {row["params_digest"], *json.loads(row["slots"]).values()}
        open_updates = self._database.rows(
            "SELECT digest FROM seats JOIN rounds USING (round_number) "
            "WHERE rounds.status = 'open' AND digest IS NOT NULL"
        )
        return wanted | {row["digest"] for row in open_updates}

    def _finite_score(self, sums: Sums) -> float | None:
        score = self.score_of(sums)
        return score if score is not None and math.isfinite(score) else None

    def _last_closed(self) -> Any:
        rows = self._database.rows(
            "SELECT * FROM rounds WHERE status = 'closed' ORDER BY round_number DESC LIMIT 1"
        )
        return rows[0] if rows else None

    def _round(self, number: int) -> Any:
        rows = self._database.rows("SELECT * FROM rounds WHERE round_number = ?", (number,))
        return rows[0] if rows else None

    def _seats(self, number: int, status: str) -> list[Any]:
        return self._database.rows(
            "SELECT * FROM seats WHERE round_number = ? AND status = ? ORDER BY site_id",
            (number, status),
        )

    def _state(self, row: Any) -> State:
        return State(
            params=self.store.get(row["params_digest"]),
            slots={
                name: self.store.get(digest) for name, digest in json.loads(row["slots"]).items()
            },
            memory=json.loads(row["memory"]),
        )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=dict)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
