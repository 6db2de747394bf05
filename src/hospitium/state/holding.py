"""Updates that were looked at: what was found, what a person decided, and what a seat comes to.

``accepted -> held -> accepted | excluded``; whoever is held or excluded when its round closes is
left out of it for good, and a later decision changes no round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hospitium.errors import StateConflictError, UsageError
from hospitium.state.database import Database, Transaction
from hospitium.state.run_log import log_append, utc_text
from hospitium.types import LeftOut

HELD, EXCLUDED = "held", "excluded"
"""Why a site is left out whose update was held, or excluded, when its round closed."""

BY_DEADLINE = "nobody (deadline)"
"""Who excludes an update that nobody decided about in time."""

Decision: TypeAlias = Literal["released", "excluded"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found of one update: its verdict, the figures in millionths, the distances."""

    site_id: str
    digest: str
    verdict: str
    figures: Mapping[str, int]
    scores: Mapping[str, Mapping[str, int]]
    why: Sequence[str]


class Reviews:
    """What was found in the rounds of one run, and decided.

    Args:
        database: The run's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, round_number: int, found: Sequence[Found]) -> None:
        """Keep what was found in an open round, and hold the updates that are to be held."""
        with self._database.transaction("reviewed") as change:
            for each in found:
                _insert(change, round_number, each)
                if each.verdict == HELD:
                    _move(change, round_number, each.site_id, "accepted", HELD)
                    _log_held(change, round_number, each)

    def decide(
        self,
        round_number: int,
        site_id: str,
        decision: Decision,
        *,
        by: str,
        reason: str,
        in_round: bool = True,
    ) -> str:
        """Keep a decision; return the status that the seat has then.

        Args:
            round_number: In which round it was held.
            site_id: Whose update.
            decision: It may count, or not.
            by: Who decides.
            reason: Why; both are kept for ever.
            in_round: Whether the decision may still change the round, where that is open.

        Raises:
            UsageError: That update is not held.
            StateConflictError: It was decided before. Nothing was changed.
        """
        with self._database.transaction("decided") as change:
            rows = change.rows(
                "SELECT reviews.verdict, decision, decided_by, seats.status FROM reviews "
                "JOIN seats USING (round_number, site_id) "
                "WHERE round_number = ? AND site_id = ?",
                (round_number, site_id),
            )
            if not rows or rows[0]["verdict"] != HELD:
                raise UsageError(
                    f"Round {round_number}: no update of {site_id} is held. Nothing was changed. "
                    "`hospitium run review RUN` lists those that are."
                )
            if rows[0]["decision"]:
                raise StateConflictError(
                    f"Round {round_number}: the update of {site_id} was {rows[0]['decision']} by "
                    f"{rows[0]['decided_by']} before. Nothing was changed: a decision stays."
                )
            status = str(rows[0]["status"])
            if status == HELD and in_round and _is_open(change, round_number):
                status = "accepted" if decision == "released" else EXCLUDED
                _move(change, round_number, site_id, HELD, status)
            change.execute(
                "UPDATE reviews SET decision = ?, decided_by = ?, reason = ?, decided_utc = ? "
                "WHERE round_number = ? AND site_id = ?",
                (decision, by, reason, utc_text(), round_number, site_id),
            )
            log_append(
                change,
                "reviewed",
                round_number=round_number,
                site_id=site_id,
                decision=decision,
                by=by,
                reason=reason,
                counts=status == "accepted",
            )
            return status

    def to_look_at(self, round_number: int) -> dict[str, str]:
        """Return the digest of each accepted update of a round that nobody looked at, by site."""
        rows = self._database.rows(
            "SELECT site_id, digest FROM seats WHERE round_number = ? AND status = 'accepted' AND "
            "site_id NOT IN (SELECT site_id FROM reviews WHERE round_number = seats.round_number)",
            (round_number,),
        )
        return {row["site_id"]: row["digest"] for row in rows}

    def pending(self, round_number: int) -> dict[str, str]:
        """Return who is held in a round, undecided, and since when."""
        rows = self._database.rows(
            "SELECT site_id, reviewed_utc FROM reviews JOIN seats USING (round_number, site_id) "
            "WHERE round_number = ? AND seats.status = 'held' AND decision IS NULL",
            (round_number,),
        )
        return {row["site_id"]: row["reviewed_utc"] for row in rows}

    def before(self, round_number: int, *, last: int) -> list[dict[str, Any]]:
        """Return what was found in the last rounds before one, the oldest first."""
        return self._rows(
            "WHERE round_number < ? AND round_number >= ?", (round_number, round_number - last)
        )

    def of_round(self, round_number: int) -> list[dict[str, Any]]:
        """Return what was found in one round, by site."""
        return self._rows("WHERE round_number = ?", (round_number,))

    def count(self) -> int:
        """Return how many updates were looked at."""
        return int(self._database.rows("SELECT count(*) FROM reviews")[0][0])

    def odd(self) -> list[dict[str, Any]]:
        """Return all that was flagged or held in the run, by round and site."""
        return self._rows("WHERE verdict <> 'clear'", ())

    def record_of_all(self) -> list[dict[str, Any]]:
        """Return all that was found and decided but times: what a resumed run must equal."""
        rows = self._rows("", ())
        return [{k: v for k, v in row.items() if not k.endswith("_utc")} for row in rows]

    def _rows(self, where: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        rows = self._database.rows(
            f"SELECT reviews.*, seats.status FROM reviews "  # noqa: S608
            f"JOIN seats USING (round_number, site_id) {where} ORDER BY round_number, site_id",
            values,
        )
        return [
            {**dict(row), **{name: json.loads(row[name]) for name in ("figures", "scores", "why")}}
            for row in rows
        ]


def leave_out_held(change: Transaction, round_number: int) -> None:
    """Leave out whoever is held or excluded in a round that is being closed, for good."""
    for status in (HELD, EXCLUDED):
        change.execute(
            "UPDATE seats SET status = 'left_out', reason = ?1 "
            "WHERE round_number = ?2 AND status = ?1",
            (status, round_number),
        )


def excluded_of(change: Transaction, round_number: int) -> list[LeftOut]:
    """Return who is excluded from an open round, whatever comes."""
    rows = change.rows(
        "SELECT site_id FROM seats WHERE round_number = ? AND status = 'excluded' ORDER BY site_id",
        (round_number,),
    )
    return [LeftOut(site_id=row["site_id"], reason=EXCLUDED) for row in rows]


def _insert(change: Transaction, round_number: int, found: Found) -> None:
    change.execute(
        "INSERT INTO reviews (round_number, site_id, digest, figures, scores, verdict, why, "
        "reviewed_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            round_number,
            found.site_id,
            found.digest,
            json.dumps(found.figures, sort_keys=True),
            json.dumps(found.scores, sort_keys=True),
            found.verdict,
            json.dumps(found.why),
            utc_text(),
        ),
    )


def _move(change: Transaction, round_number: int, site_id: str, old: str, new: str) -> None:
    change.change_one(
        "UPDATE seats SET status = ? WHERE round_number = ? AND site_id = ? AND status = ?",
        (new, round_number, site_id, old),
        what=f"Reviewing the update of {site_id}",
    )


def _is_open(change: Transaction, round_number: int) -> bool:
    sql = "SELECT count(*) FROM rounds WHERE round_number = ? AND status = 'open'"
    return change.number(sql, (round_number,)) == 1


def _log_held(change: Transaction, round_number: int, found: Found) -> None:
    log_append(
        change,
        HELD,
        round_number=round_number,
        site_id=found.site_id,
        digest=found.digest,
        why=list(found.why),
    )
