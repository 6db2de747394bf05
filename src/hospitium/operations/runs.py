"""What a person can do with runs: start one from a plan and sites, list them, show one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hospitium.errors import DataError, HospitiumError
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases, concatenate
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import read_source
from hospitium.operations.admission import admit_local
from hospitium.operations.case_caches import site_cache
from hospitium.operations.progress import Say
from hospitium.operations.running import open_ledger
from hospitium.operations.site_sources import SiteSource, find_sources, read_sites
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
        parts = {source.site_id: _read(plan, source, home=home, say=say) for source in sources}
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


def _read(plan: Plan, source: SiteSource, *, home: Home, say: Say) -> Cases:
    """Read one site's data as the plan's data contract asks."""
    site_id = source.site_id
    say({"kind": "stage", "text": f"Reading the images of {site_id}"})
    cases = read_source(
        source.data,
        harmonise=Harmonise.of(plan),
        seed=plan.seed,
        columns=source.columns if source.columns.named() else None,
        progress=lambda done, of: say(
            {"kind": "count", "text": f"images of {site_id} read", "done": done, "of": of}
        ),
        classes=plan.task.classes,
        key=source.key,
        imaging=plan.imaging,
        labels=source.labels,
        store=None if source.data.suffix.lower() == ".npz" else site_cache(home),
    )
    # Two hospitals count their subjects alike; a person is told apart by the hospital's name.
    subjects = np.array([f"{source.site_id}/{subject}" for subject in cases.subjects], np.str_)
    return replace(cases, subjects=subjects)


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


def _row(folder: Path) -> dict[str, Any]:
    ledger = open_ledger(folder)
    try:
        return {
            "run_id": ledger.run_id,
            "status": _status(folder, ledger),
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
    """Return ``finished``, ``running`` while a process works on it, or ``stopped``: resume it."""
    if ledger.is_finished:
        return "finished"
    return "running" if is_locked(folder) else "stopped"


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
