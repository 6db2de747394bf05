"""What a person can do with runs: list them, show one, watch it, pause it, stop it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hospitium.errors import HospitiumError, StateConflictError
from hospitium.evaluation.score_sums import curve_metrics
from hospitium.operations import networked
from hospitium.operations.attempts import canary_result, state_of
from hospitium.operations.halting import Wish, set_wish, wish_of
from hospitium.operations.held_updates import reviewed
from hospitium.operations.running import open_ledger
from hospitium.operations.scores import score_part
from hospitium.operations.server_files import serving_folder
from hospitium.plan import Plan
from hospitium.state import history
from hospitium.state.home import Home, is_locked
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen


def list_runs(home: Home) -> list[dict[str, Any]]:
    """Return one row for each run: how far it is; a run that cannot be read does not hide others.

    Such a run has the status ``unreadable``, and ``code`` and ``error`` say why.
    """
    rows = []
    for run_id in home.runs():
        folder = home.run(run_id)
        try:
            if RunLedger.exists(folder):
                rows.append(_row(folder))
        except HospitiumError as error:
            rows.append(
                {
                    "run_id": run_id,
                    "status": "unreadable",
                    "code": error.code,
                    "error": str(error),
                }
            )
    return rows


def wish_for(home: Home, run_id: str, wish: Wish) -> dict[str, Any]:
    """Pause a run, stop it, or ("") take such a wish back; return whether somebody serves it.

    Raises:
        UnknownRunError: There is no such run.
        StateConflictError: It is finished, or the canary of another.
    """
    folder, federation, is_finished = networked.place_of(home, run_id)
    if is_finished and wish:
        raise StateConflictError(f"{run_id}: the run is finished. Nothing was changed.")
    set_wish(folder, wish)
    return {
        "run_id": run_id,
        "wish": wish,
        "federation": federation,
        "is_served": is_served(home),
    }


def is_served(home: Home) -> bool:
    """Whether a `hospitium coordinator up` works on the runs of this home."""
    return is_locked(serving_folder(home))


def _row(folder: Path) -> dict[str, Any]:
    ledger = open_ledger(folder)
    try:
        return {
            "run_id": ledger.run_id,
            "status": _status(folder, ledger),
            "federation": str(ledger.facts.get("federation", "")),
            "round": ledger.last_closed,
            "rounds": 1 if ledger.facts.get("canary_of") else ledger.plan.rounds.count,
            "sites": len(ledger.seats),
            "plan_digest": ledger.plan.digest,
            "created_utc": ledger.created.isoformat(),
            "report": (Path(str(ledger.facts.get("out", ""))) / "report.html").is_file(),
        }
    finally:
        ledger.close()


def _status(folder: Path, ledger: RunLedger) -> str:
    """Return ``finished``, ``running`` while a process works on it, or ``stopped``: resume it.

    Also ``paused`` by a person; and between machines ``waiting`` for sites, ``failing`` with an
    error that is not the sites', or ``not served`` while no coordinator is up.
    """
    if ledger.is_finished:
        return "finished"
    wish = wish_of(folder)
    if wish:
        return wish
    if not ledger.facts.get("federation"):
        return "running" if is_locked(folder) else "stopped"
    if not is_served(Home(folder.parent.parent)):
        return "not served"
    said = str(state_of(folder).get("state", ""))
    return said if said in ("waiting", "failing") else "running"


def show_run(home: Home, run_id: str) -> dict[str, Any]:
    """Return what the ledger says of a run: sites, rounds, who took part, what is the result."""
    folder = home.run(run_id)
    ledger = open_ledger(folder)
    try:
        chosen = ledger.chosen()
        return {
            **_row(folder),
            "folder": str(folder),
            "out": ledger.facts.get("out"),
            "waiting": _waiting(folder),
            "canary": canary_result(folder),
            "late_seats": history.late_seats(ledger),
            "conflicts": history.conflicts(ledger),
            "log": _log(ledger),
            "seats": [
                {"site_id": seat.site_id, "num_cases": seat.num_cases} for seat in ledger.seats
            ],
            "participation": history.participation(ledger),
            "scores": [
                {"round": row["round"], "score": row["score"]} for row in history.scores(ledger)
            ],
            "interruptions": history.interruptions(ledger),
            "review": [row for row in reviewed(ledger) if row["verdict"] == "held"],
            "chosen": None if chosen is None else _chosen(chosen, ledger.plan),
        }
    finally:
        ledger.close()


def _chosen(chosen: Chosen, plan: Plan) -> dict[str, Any]:
    """Return which params are the result, and how good they are on all validation cases."""
    part = score_part(chosen.sums)
    figures = curve_metrics(part) if part else {"auroc": None, "n": 0}
    return {
        "round": chosen.round_number,
        "slot": chosen.slot,
        "digest": chosen.digest,
        "reason": chosen.reason,
        "threshold": chosen.threshold,
        "validation": {
            "metric": "AUROC" if len(plan.task.classes) == 2 else "macro AUROC",
            "auroc": figures["auroc"],
            "n": figures["n"],
        },
    }


def _log(ledger: RunLedger) -> dict[str, Any]:
    """Return how long the run's log is, and how many rounds were closed before it was begun."""
    begun = ledger.log.of("log_begun")
    return {
        "entries": ledger.log.size,
        "closed_rounds_before": begun[0][1]["closed_rounds"] if begun else 0,
    }


def _waiting(folder: Path) -> dict[str, Any]:
    """Return whom a run between machines waits for, and until when; empty while it does not."""
    said = state_of(folder)
    return said if said.get("state") in ("waiting", "failing") else {}


def watch_run(home: Home, run_id: str) -> Iterator[dict[str, Any]]:
    """Yield each closed round of a run once, until the run is finished.

    The caller waits between two calls; a run that nobody works on simply yields nothing new.
    """
    seen = 0
    while True:
        found = show_run(home, run_id)
        scores = {row["round"]: row["score"] for row in found["scores"]}
        for row in found["participation"]:
            if seen < row["round"] <= found["round"]:
                seen = row["round"]
                yield {
                    **row,
                    "rounds": found["rounds"],
                    "score": scores.get(row["round"] - 1),
                    "status": found["status"],
                }
        if found["status"] == "finished":
            return
        yield {}
