"""Beginning a run on this machine: from a plan and its sites' data to the first ledger entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.errors import DataError
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases, concatenate
from hospitium.operations.admission import admit_local
from hospitium.operations.new_runs import new_run
from hospitium.operations.progress import Say
from hospitium.operations.site_cases import read_site
from hospitium.operations.site_sources import find_sources, read_sites
from hospitium.operations.starting import (
    create_run,
    prepare_site,
    require_free_names,
    with_plugin,
)
from hospitium.plan import Plan, load_plan
from hospitium.plan.checking import check_plan
from hospitium.state.home import Home
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
