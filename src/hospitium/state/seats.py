"""What happens to the seats of a round: each change with its log entry, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hospitium.errors import StateConflictError
from hospitium.state.beginning import as_json
from hospitium.state.database import Transaction
from hospitium.state.run_log import log_append, utc_text
from hospitium.state.sums_text import sums_text
from hospitium.types import LeftOut, Task, Update
from hospitium.wire.canonical import digest as sha256

NO_ANSWER = "no_answer"
"""Why a site is left out that was asked and never heard of again."""

_ACCEPT = (
    "UPDATE seats SET status = 'accepted', digest = ?, num_cases = ?, num_steps = ?, train_s = ?, "
    "sums = ?, answered_utc = ? WHERE round_number = ? AND site_id = ? AND status = 'asked'"
)
_LEAVE_OUT = (
    "UPDATE seats SET status = 'left_out', reason = ?, answered_utc = ? "
    "WHERE round_number = ? AND site_id = ? AND status = 'asked'"
)
_REFUSE = (
    "INSERT OR IGNORE INTO refusals SELECT ?1, attempt, ?2, ?3 FROM rounds WHERE round_number = ?1"
)
_REASON = (
    "(SELECT max(reason) FROM refusals JOIN rounds USING (round_number, attempt) "
    "WHERE refusals.round_number = seats.round_number AND refusals.site_id = seats.site_id)"
)


def open_round(change: Transaction, task: Task, site_ids: Sequence[str]) -> None:
    """Open a round, and ask these sites in it."""
    number = task.round_number
    change.execute(
        "INSERT INTO rounds (round_number, status, base_digest, max_norm, opened_utc) "
        "VALUES (?, 'open', ?, ?, ?)",
        (number, task.base_digest, task.max_norm, utc_text()),
    )
    _insert(change, number, site_ids)
    log_append(
        change,
        "round_opened",
        round_number=number,
        base_digest=task.base_digest,
        max_norm=task.max_norm.hex(),
        sites=sorted(site_ids),
    )


def ask_too(change: Transaction, number: int, site_ids: Sequence[str]) -> None:
    """Ask further sites in an open round; of those who are asked already nothing changes."""
    if added := _insert(change, number, site_ids):
        log_append(change, "seats_added", round_number=number, sites=added)


def accept(change: Transaction, update: Update, *, digest: str | None) -> None:
    """Record an update whose params are in the store, with what came with it.

    Raises:
        StateConflictError: The site is not asked (any more) in this round.
    """
    change.change_one(
        _ACCEPT,
        (
            digest,
            update.num_cases,
            update.num_steps,
            update.train_s,
            sums_text(update.sums),
            utc_text(),
            update.round_number,
            update.site_id,
        ),
        what=f"Accepting the update of {update.site_id}",
    )
    log_append(
        change,
        "received",
        round_number=update.round_number,
        site_id=update.site_id,
        digest=digest or "",
        num_cases=update.num_cases,
        num_steps=update.num_steps,
        sums=sha256(as_json(update.sums).encode()),
        **update.evidence,
    )


def refuse(change: Transaction, number: int, refused: LeftOut) -> None:
    """Record a refusal, once in each attempt; the seat stays as it is."""
    if change.execute(_REFUSE, (number, refused.site_id, refused.reason)):
        _log(change, "refused", number, refused)


def leave_out(change: Transaction, number: int, left_out: LeftOut) -> None:
    """Leave out a site that is asked, and has not answered."""
    values = (left_out.reason, utc_text(), number, left_out.site_id)
    if change.execute(_LEAVE_OUT, values):
        _log(change, "left_out", number, left_out)


def require_accepted(change: Transaction, number: int, site_ids: Collection[str]) -> None:
    """Refuse to close a round with a sum of others than those whose updates count in the ledger.

    Raises:
        StateConflictError: Somebody released a held update meanwhile; or another process, where
            locks are not kept, accepted or struck somebody.
    """
    rows = change.rows(
        "SELECT site_id FROM seats WHERE round_number = ? AND status = 'accepted'", (number,)
    )
    found = sorted(row["site_id"] for row in rows)
    if found != sorted(site_ids):
        raise StateConflictError(
            f"Round {number} cannot be closed: the updates of {', '.join(sorted(site_ids))} were "
            f"added up, and by now those of {', '.join(found) or 'nobody'} count. Nothing was "
            "changed. Somebody decided about a held update at this moment, and the run can be "
            "resumed; or another process works on it, whose file system keeps no locks."
        )


def leave_out_silent(change: Transaction, number: int) -> None:
    """Leave out whoever is still asked: with the reason of the last refusal, or no answer."""
    rows = change.rows(
        f"SELECT site_id, coalesce({_REASON}, ?2) AS reason FROM seats "  # noqa: S608
        "WHERE round_number = ?1 AND status = 'asked' ORDER BY site_id",
        (number, NO_ANSWER),
    )
    for row in rows:
        change.execute(
            "UPDATE seats SET status = 'left_out', reason = ? "
            "WHERE round_number = ? AND site_id = ? AND status = 'asked'",
            (row["reason"], number, row["site_id"]),
        )
        _log(change, "left_out", number, LeftOut(site_id=row["site_id"], reason=row["reason"]))


def begin_again(change: Transaction, number: int) -> list[LeftOut]:
    """Begin another attempt at a round: ask those again who were left out, and return them."""
    leave_out_silent(change, number)
    rows = change.rows(
        "SELECT site_id, reason FROM seats WHERE round_number = ? AND status = 'left_out' "
        "ORDER BY site_id",
        (number,),
    )
    for row in rows:
        change.execute(_REFUSE, (number, row["site_id"], row["reason"]))
    change.execute(
        "UPDATE seats SET status = 'asked', reason = NULL "
        "WHERE round_number = ? AND status = 'left_out'",
        (number,),
    )
    change.execute("UPDATE rounds SET attempt = attempt + 1 WHERE round_number = ?", (number,))
    names = [row["site_id"] for row in rows]
    log_append(change, "below_quorum", round_number=number, left_out=names)
    return [LeftOut(site_id=row["site_id"], reason=row["reason"]) for row in rows]


def log_closed(
    change: Transaction, task: Task, *, params_digest: str, slots: Mapping[str, str]
) -> None:
    """Add the entry of a closed round: what every site may be shown, so no count and no reason."""
    of_status = {
        status: [
            row["site_id"]
            for row in change.rows(
                "SELECT site_id FROM seats WHERE round_number = ? AND status = ? ORDER BY site_id",
                (task.round_number, status),
            )
        ]
        for status in ("accepted", "left_out")
    }
    log_append(
        change,
        "round_closed",
        round_number=task.round_number,
        base_digest=task.base_digest,
        params_digest=params_digest,
        slots=slots,
        answered=of_status["accepted"],
        left_out=of_status["left_out"],
    )


def _insert(change: Transaction, number: int, site_ids: Sequence[str]) -> list[str]:
    """Add seats; return whose were not there before."""
    return [
        site_id
        for site_id in sorted(site_ids)
        if change.execute(
            "INSERT OR IGNORE INTO seats (round_number, site_id, status) VALUES (?, ?, 'asked')",
            (number, site_id),
        )
    ]


def _log(change: Transaction, kind: str, number: int, left_out: LeftOut) -> None:
    site_id, reason = left_out.site_id, left_out.reason
    log_append(change, kind, round_number=number, site_id=site_id, reason=reason)
