"""What a run's ledger says: what was agreed, how far it is, which params it came to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hospitium.errors import UnknownRunError, VersionError
from hospitium.plan import Plan
from hospitium.plan.reading import plan_from_dict
from hospitium.state.database import Database
from hospitium.state.holding import Reviews
from hospitium.state.run_log import RunLog
from hospitium.state.store import Store
from hospitium.types import Json, Seat, State

MAX_ROUND = 1 << 53
"""Later than any round of any plan."""


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


class RunRecord:
    """The ledger of one run in its folder, read only.

    Args:
        folder: The run's folder, made by `RunLedger.create`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self._database = Database(folder / "ledger.sqlite")
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
        self._first_seats: Mapping[str, int] = dict(json.loads(row["seats"]))
        self.facts: Mapping[str, Json] = json.loads(row["facts"])
        self.created = datetime.fromisoformat(row["created_utc"])
        self.log = RunLog(self._database)
        self.reviews = Reviews(self._database)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Every seat that there is by now, the first ones first."""
        return self.seats_of(MAX_ROUND)

    def seats_of(self, round_number: int) -> tuple[Seat, ...]:
        """Return the seats of a round: those of the beginning, and those given for it or before."""
        late = self._database.rows(
            "SELECT site_id, num_cases FROM late_seats WHERE from_round <= ? "
            "ORDER BY from_round, site_id",
            (round_number,),
        )
        counts = {**self._first_seats, **{row["site_id"]: row["num_cases"] for row in late}}
        return tuple(Seat(site_id=name, num_cases=number) for name, number in counts.items())

    def standing_of(self, round_number: int) -> tuple[int, set[str]]:
        """Return which attempt at a round is the present one, and whose update is accepted in it.

        A round that was not opened is at attempt 0.
        """
        row = self._round(round_number)
        accepted = {each["site_id"] for each in self._seats(round_number, "accepted")}
        return (0 if row is None else int(row["attempt"])), accepted

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
        late = self._database.rows("SELECT * FROM late_seats ORDER BY from_round, site_id")
        run = self._database.rows("SELECT run_id, plan_digest, seats, status, chosen FROM run")
        return {
            "run": dict(run[0]),
            "rounds": [dict(row) for row in rounds],
            "seats": [dict(row) for row in seats],
            "refusals": [dict(row) for row in refusals],
            "late_seats": [dict(row) for row in late],
            "reviews": self.reviews.record_of_all(),
            "blobs": sorted(self.store.digests()),
        }

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query, for the functions of `state.history` only."""
        return [dict(row) for row in self._database.rows(sql, values)]

    # --- inside ----------------------------------------------------------------------------

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
            params_digest=row["params_digest"],
        )
