"""What a person can do with runs: start one from a plan and sites, list them, show one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.errors import DataError, HospitiumError, StateConflictError
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases, concatenate
from hospitium.operations import networked
from hospitium.operations.admission import admit_local
from hospitium.operations.attempts import canary_result, state_of
from hospitium.operations.halting import Wish, set_wish, wish_of
from hospitium.operations.progress import Say
from hospitium.operations.running import open_ledger
from hospitium.operations.server_files import serving_folder
from hospitium.operations.site_cases import read_site
from hospitium.operations.site_sources import find_sources, read_sites
from hospitium.operations.starting import (
    create_run,
    new_run,
    prepare_site,
    require_free_names,
    with_plugin,
)
from hospitium.plan import Plan, load_plan
from hospitium.plan.checking import check_plan
from hospitium.state import history
from hospitium.state.home import Home, is_locked
from hospitium.state.ledger import RunLedger
from hospitium.training.plugins import Plugin, load_plugin


def prepare_run(
    home: Home,
    *,
    plan_path: Path,
    sites_path: Path,
    run_id: str | None,
    plugin_path: Path | None,
    out: Path | None,
    say: Say,
    command: str,
) -> Path:
    """Read a plan and its sites' data and begin the run; return its folder.

    Raises:
        PlanError: The plan has problems.
        UsageError: The sites file has, or the name cannot name a run.
        DataError: A site's data cannot be used with this plan.
        ReaderError: A site's reader is not the expected one.
    """
    plugin = load_plugin(plugin_path.resolve()) if plugin_path else Plugin()
    plan = with_plugin(load_plan(plan_path), plugin)
    run_id = run_id or f"{plan.name[:40]}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    home.free_run(run_id)  # before hours of reading, as are the next lines
    sources = find_sources(home, read_sites(sites_path))
    require_free_names(source.site_id for source in sources)
    admit_local(source.site_id for source in sources)
    check_plan(plan, num_sites=len(sources), extra=plugin.extra)
    with new_run(home, run_id, out=out) as folder:
        parts = {source.site_id: read_site(plan, source, home=home, say=say) for source in sources}
        given = _given(parts)
        say({"kind": "partition", "text": _summary(parts), "sites": _rows(given)})
        _require_all_classes(plan, parts)
        sites = [
            prepare_site(site_id, cases, folder / "data" / site_id)
            for site_id, cases in parts.items()
        ]
        write_cases(folder / "joint", concatenate([part.split("test") for part in parts.values()]))
        create_run(
            folder,
            run_id=run_id,
            plan=plan,
            sites=sites,
            facts={
                "command": command,
                "compare": True,
                "partition": given,
                "out": str((out or folder / "report").resolve()),
            },
            plugin=plugin,
        )
    return folder


def _require_all_classes(plan: Plan, parts: Mapping[str, Cases]) -> None:
    """Refuse to learn a class that nobody has; a single site may lack some."""
    counts = [cases.split("train").class_counts() for cases in parts.values()]
    for name in plan.task.classes:
        if not any(count[name] for count in counts):
            raise DataError(
                f"Plan {plan.name!r}: no training case of {name} at any site. Nothing was started. "
                "The study lead: mend task.classes, or the sites: their labels."
            )


def _given(parts: Mapping[str, Cases]) -> dict[str, Any]:
    sites = {
        site_id: {
            "train": cases.split("train").class_counts(),
            "validation": cases.split("val").class_counts(),
            "test": cases.split("test").class_counts(),
            "shift": None,
        }
        for site_id, cases in parts.items()
    }
    left_out = _left_out(parts)
    note = {"note": left_out} if left_out else {}
    return {"name": "given", "sites": sites, **note}


def _left_out(parts: Mapping[str, Cases]) -> str:
    """Return what all sites together left out, by reason; empty where nothing was."""
    skipped: Counter[str] = Counter()
    for cases in parts.values():
        skipped.update(cases.skipped)
    listed = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in skipped.items())
    return f"Left out: {listed}." if listed else ""


def _summary(parts: Mapping[str, Cases]) -> str:
    total = sum(len(cases) for cases in parts.values())
    return f"{total} cases of {len(parts)} sites. {_left_out(parts)}".rstrip()


def _rows(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each site, as events have it."""
    return [
        {"site_id": site_id, "train": row["train"], "val": row["validation"], "test": row["test"]}
        for site_id, row in given["sites"].items()
    ]


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
            "rounds": ledger.plan.rounds.count,
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
            "seats": [
                {"site_id": seat.site_id, "num_cases": seat.num_cases} for seat in ledger.seats
            ],
            "participation": history.participation(ledger),
            "scores": [
                {"round": row["round"], "score": row["score"]} for row in history.scores(ledger)
            ],
            "interruptions": history.interruptions(ledger),
            "chosen": None
            if chosen is None
            else {
                "round": chosen.round_number,
                "slot": chosen.slot,
                "digest": chosen.digest,
                "reason": chosen.reason,
                "threshold": chosen.threshold,
            },
        }
    finally:
        ledger.close()


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
