"""What a ledger tells people: who took part in each round, and how the model got better."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hospitium.state.record import RunRecord
from hospitium.state.sums_text import read_sums


def participation(ledger: RunRecord) -> list[dict[str, Any]]:
    """Return, for each round: who was asked, who answered, and who was left out and why."""
    rows = ledger.rows(
        "SELECT round_number, site_id, seats.status, reason, rounds.attempt FROM seats "
        "JOIN rounds USING (round_number) ORDER BY round_number, site_id"
    )
    refusals = ledger.rows("SELECT * FROM refusals ORDER BY round_number, attempt, site_id, reason")
    rounds: dict[int, dict[str, Any]] = {}
    for row in rows:
        entry = rounds.setdefault(
            row["round_number"],
            {
                "round": row["round_number"],
                "asked": [],
                "answered": [],
                "left_out": [],
                "refused": [],
                "attempts": row["attempt"],
            },
        )
        entry["asked"].append(row["site_id"])
        if row["status"] == "accepted":
            entry["answered"].append(row["site_id"])
        elif row["status"] == "left_out":
            entry["left_out"].append({"site_id": row["site_id"], "reason": row["reason"]})
    for row in refusals:
        rounds[row["round_number"]]["refused"].append(
            {"site_id": row["site_id"], "reason": row["reason"], "attempt": row["attempt"]}
        )
    return [rounds[number] for number in sorted(rounds)]


def scores(ledger: RunRecord) -> list[dict[str, Any]]:
    """Return the metric sums of each round's incoming params, together and per site."""
    rounds = ledger.rows(
        "SELECT round_number, sums, score, status FROM rounds ORDER BY round_number"
    )
    seats = ledger.rows(
        "SELECT round_number, site_id, sums, train_s FROM seats WHERE status = 'accepted' "
        "ORDER BY round_number, site_id"
    )
    by_round: dict[int, list[dict[str, Any]]] = {}
    for row in seats:
        by_round.setdefault(row["round_number"], []).append(row)
    return [
        {
            "round": row["round_number"],
            "score": row["score"],
            "sums": read_sums(row["sums"]) if row["sums"] else {},
            "sites": {
                seat["site_id"]: read_sums(seat["sums"])
                for seat in by_round.get(row["round_number"], [])
            },
        }
        for row in rounds
        if row["round_number"] > 0
    ]


def last_scores(ledger: RunRecord, digest: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return each site's metric sums of params that were scored after the last round.

    There are none of a run that ended before these were kept.
    """
    rows = ledger.rows(
        "SELECT site_id, sums FROM last_scores WHERE digest = ? ORDER BY site_id", (digest,)
    )
    return {row["site_id"]: read_sums(row["sums"]) for row in rows}


def spans(ledger: RunRecord) -> list[tuple[datetime, datetime]]:
    """Return from when to when rounds were under way; an interruption ends one span.

    A span runs from the first to the last moment that the ledger knows of, so that the time in
    which nobody worked on the run is in none.
    """
    moments = ledger.rows(
        "SELECT created_utc AS at_utc, 0 AS resumed FROM run "
        "UNION ALL SELECT opened_utc, 0 FROM rounds "
        "UNION ALL SELECT closed_utc, 0 FROM rounds WHERE closed_utc IS NOT NULL "
        "UNION ALL SELECT at_utc, 1 FROM interruptions ORDER BY at_utc"
    )
    found: list[tuple[datetime, datetime]] = []
    for moment in moments:
        at = datetime.fromisoformat(moment["at_utc"])
        begun = at if moment["resumed"] or not found else found.pop()[0]
        found.append((begun, at))
    return found


def interruptions(ledger: RunRecord) -> list[dict[str, Any]]:
    """Return when the run was taken up again, and after which closed round."""
    return ledger.rows("SELECT at_utc, round_number AS round FROM interruptions ORDER BY at_utc")


def work(ledger: RunRecord) -> list[dict[str, Any]]:
    """Return every seat of every round: status, seconds of training, and when it was settled."""
    return ledger.rows(
        "SELECT round_number AS round, site_id, seats.status, reason, train_s, answered_utc, "
        "rounds.closed_utc FROM seats JOIN rounds USING (round_number) "
        "ORDER BY round_number, site_id"
    )


def conflicts(ledger: RunRecord) -> list[dict[str, Any]]:
    """Return who gave different answers to one task, and the SHA-256 of each; the first counts."""
    names = ("round_number", "site_id", "statements")
    return [{name: leaf[name] for name in names} for _, leaf in ledger.log.of("conflict")]


def late_seats(ledger: RunRecord) -> list[dict[str, Any]]:
    """Return the seats that were given while the run was going on, by round."""
    return ledger.rows(
        "SELECT site_id, num_cases, from_round FROM late_seats ORDER BY from_round, site_id"
    )
