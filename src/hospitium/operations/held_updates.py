"""What a person can do about updates that were held: look at them, release or exclude them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hospitium.errors import RunBusyError, UsageError
from hospitium.evaluation.review_rules import (
    LEAST_FAMILY,
    LONGEST_PAST,
    MEASURES,
    MILLION,
    NOT_FINITE,
    middle_of,
)
from hospitium.operations.reviewing import SEAT_CONFLICT
from hospitium.operations.running import open_ledger
from hospitium.state import durable
from hospitium.state.holding import HELD, Decision
from hospitium.state.home import Home, locked
from hospitium.state.ledger import RunLedger

DECIDED = "decided"
"""File in a run's folder whose time says when a person decided last: whoever waits looks again."""

_LONGEST_TEXT = 500

_RULES = {
    "family": "against the other sites of the round",
    "lasting": "against the others, mean of its last five rounds",
    "own": "against its own last rounds",
}


def review_of(home: Home, run_id: str) -> dict[str, Any]:
    """Return what was flagged and held in a run, with figures, history and decisions.

    Raises:
        UnknownRunError: There is no such run.
    """
    ledger = open_ledger(home.run(run_id))
    try:
        rules = ledger.plan.review
        return {
            "run_id": ledger.run_id,
            "mode": rules.mode,
            "on_held": rules.on_held,
            "updates": reviewed(ledger, with_history=True),
            "note": note_on(len(ledger.seats)),
        }
    finally:
        ledger.close()


def decide(
    home: Home,
    run_id: str,
    *,
    site_id: str,
    round_number: int,
    decision: Decision,
    by: str,
    reason: str,
) -> dict[str, Any]:
    """Release or exclude a held update, by name and reason; both are kept for ever.

    An update whose round is open and waits counts once it is released. A round that was closed
    without it stays as it is: the update is never added later. Then a release only teaches the
    rules: what was seen of this site was no fault.

    Returns:
        ``run_id, site_id, round, decision, by, reason``, ``counts`` (whether the update is in its
        round now) and ``is_open`` (whether the round goes on with this decision).

    Raises:
        UsageError: That update is not held, or no name or reason is given.
        StateConflictError: It was decided before.
        RunBusyError: A process works on this round, and the plan says that it waits for a decision.
    """
    by, reason = _text(by, "--as"), _text(reason, "--reason")
    folder = home.run(run_id)
    ledger = open_ledger(folder)
    try:
        try:
            with locked(folder):
                status = ledger.reviews.decide(
                    round_number, site_id, decision, by=by, reason=reason
                )
        except RunBusyError:
            if ledger.plan.review.on_held == "wait" and site_id in ledger.reviews.pending(
                round_number
            ):
                raise
            status = ledger.reviews.decide(
                round_number, site_id, decision, by=by, reason=reason, in_round=False
            )
        durable.write_atomically(folder / DECIDED, lambda file: str(file.write(b"")))
        return {
            "run_id": ledger.run_id,
            "site_id": site_id,
            "round": round_number,
            "decision": decision,
            "by": by,
            "reason": reason,
            "counts": status == "accepted",
            "is_open": status in ("accepted", "excluded"),
        }
    finally:
        ledger.close()


def reviewed(ledger: RunLedger, *, with_history: bool = False) -> list[dict[str, Any]]:
    """Return all that was flagged or held in a run, by round and site, in plain JSON."""
    found = []
    for row in ledger.reviews.odd():
        family = {
            each["site_id"]: each["figures"]
            for each in ledger.reviews.of_round(row["round_number"])
        }
        update: dict[str, Any] = {
            "round": row["round_number"],
            "site_id": row["site_id"],
            "verdict": row["verdict"],
            "why": [words_of(why) for why in row["why"]],
            "figures": _figures(row["figures"], middle_of(family), row["scores"]),
            "waits": row["status"] == HELD and row["decision"] is None,
            "decision": row["decision"],
            "by": row["decided_by"],
            "reason": row["reason"],
        }
        if with_history:
            update["history"] = _history(ledger, row["round_number"], row["site_id"])
        found.append(update)
    return found


def review_part(ledger: RunLedger) -> dict[str, Any]:
    """Return what a report says of the review of a run."""
    rows = reviewed(ledger)
    return {
        "mode": ledger.plan.review.mode,
        "num_updates": ledger.reviews.count(),
        "num_flagged": sum(row["verdict"] == "flagged" for row in rows),
        "updates": [row for row in rows if row["verdict"] == HELD],
        "note": note_on(len(ledger.seats)),
    }


def note_on(num_sites: int) -> str:
    """Return what must be said beside the figures of a run of so many sites."""
    if num_sites >= LEAST_FAMILY:
        return ""
    return (
        f"With fewer than {LEAST_FAMILY} sites no statistical rule means much: each site is "
        "compared only with its own past, and a site that was at fault from the start is not found."
    )


def words_of(why: str) -> str:
    """Return in words why an update was flagged or held.

    Example:
        >>> words_of("auroc/family")
        'AUROC of the model there, against the other sites of the round'
    """
    if why == NOT_FINITE:
        return "scores of the model there are not finite"
    if why == SEAT_CONFLICT:
        return "the site gave another answer to the same task too"
    measure, rule = why.split("/")
    return f"{MEASURES[measure].words}, {_RULES[rule]}"


def _figures(
    figures: Mapping[str, int], middle: Mapping[str, int], scores: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Return each measure with the median of the round's sites and its distances."""
    return {
        name: {
            "value": figures[name] / MILLION,
            "median": middle[name] / MILLION if name in middle else None,
            "distances": {rule: score / 100 for rule, score in scores.get(name, {}).items()},
        }
        for name in MEASURES
        if name in figures
    }


def _history(ledger: RunLedger, round_number: int, site_id: str) -> list[dict[str, Any]]:
    """Return what was measured of a site in the rounds before."""
    rows: Sequence[Mapping[str, Any]] = ledger.reviews.before(round_number, last=LONGEST_PAST)
    return [
        {
            "round": row["round_number"],
            "verdict": row["verdict"],
            **{name: row["figures"][name] / MILLION for name in MEASURES if name in row["figures"]},
        }
        for row in rows
        if row["site_id"] == site_id
    ]


def _text(text: str, option: str) -> str:
    """Return a name or a reason on one line."""
    line = " ".join(text.split())
    if not line or len(line) > _LONGEST_TEXT or not line.isprintable():
        raise UsageError(
            f"{option}: expected 1 to {_LONGEST_TEXT} characters on one line, found {len(line)}. "
            "Nothing was changed. A decision is kept with the name of whoever took it, and why."
        )
    return line
