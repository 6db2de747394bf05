"""What a run between machines comes to: the model, and a report from the sites' sums alone.

The coordinator has no case of any site. So the report has validation figures, from sums that the
sites sent; and no baselines, which would need the cases.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.engines.hub.run_keys import delete_run_key
from hospitium.evaluation.report_networked import SCHEMA_VERSION, write_networked_report
from hospitium.evaluation.score_sums import curve_metrics
from hospitium.operations.costs import costs, waits
from hospitium.operations.held_updates import review_part
from hospitium.operations.protections import protections
from hospitium.operations.run_figures import (
    curve,
    outcome_of,
    task_bytes,
    worked_s,
    write_model,
)
from hospitium.operations.running import open_ledger
from hospitium.operations.scores import score_part
from hospitium.operations.versions import versions
from hospitium.state import durable, history
from hospitium.state.desk import Desk
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen

NO_BASELINES = (
    "There is no comparison with sites alone or with pooled training: it would need the sites' "
    "cases in one place, or as much computing again at each of them."
)


def write_networked(folder: Path, *, desk: Desk) -> tuple[dict[str, Any], Path]:
    """Write the model and the report of a finished run; return the report and its page.

    The run's key is deleted: nobody can open again what sites sent.
    """
    ledger = open_ledger(folder)
    try:
        chosen = ledger.chosen()
        assert chosen is not None, "a report is written of a finished run"
        out = Path(str(ledger.facts.get("out") or folder / "report"))
        durable.make_folder(out)
        write_model(ledger, chosen, out)
        report = networked_report(ledger, chosen, desk)
        _, page = write_networked_report(out, report)
    finally:
        ledger.close()
    delete_run_key(folder)
    return report, page


def networked_report(ledger: RunLedger, chosen: Chosen, desk: Desk) -> dict[str, Any]:
    """Return `report.json` of a finished run between machines."""
    plan, facts = ledger.plan, ledger.facts
    down, up = task_bytes(ledger)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "networked",
        "run_id": ledger.run_id,
        "federation": facts["federation"],
        "plan_digest": plan.digest,
        "classes": list(plan.task.classes),
        "rounds": plan.rounds.count,
        "wall_s": round(worked_s(ledger), 1),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_sha256": chosen.digest,
        "chosen_round": {"round": chosen.round_number, "reason": chosen.reason},
        "threshold": chosen.threshold,
        "validation": _validation(ledger, chosen),
        "baselines": NO_BASELINES,
        "sites": [{"site_id": seat.site_id, "num_cases": seat.num_cases} for seat in ledger.seats],
        "late_seats": history.late_seats(ledger),
        "participation": [
            {key: row[key] for key in ("round", "asked", "answered", "left_out", "attempts")}
            | ({"outcome": outcome_of(row)} if row["left_out"] or row["refused"] else {})
            for row in history.participation(ledger)
        ],
        "review": review_part(ledger),
        "interruptions": history.interruptions(ledger),
        "traffic": {"bytes_down_per_site_per_round": down, "bytes_up_per_site_per_round": up},
        "costs": costs(ledger, desk, down=down, up=up),
        "waits": waits(history.work(ledger)),
        "curve": curve(ledger, chosen),
        "seeds": {"plan": plan.seed, "first params": plan.model.init_seed},
        "command": facts.get("command", ""),
        "protections": protections(plan),
        "versions": versions(),
    }


def _validation(ledger: RunLedger, chosen: Chosen) -> dict[str, Any]:
    """Return the figures of the chosen params, together and per site.

    Of a run whose ledger has no site's figures of them, per site those of the last params that have
    any: ``sites_after_round`` says which.
    """
    after: int | None = None
    sites = history.last_scores(ledger, chosen.digest)
    if not sites:
        rows = history.scores(ledger)
        scored = [row for row in rows if any(map(score_part, row["sites"].values()))]
        sites, after = (scored[-1]["sites"], scored[-1]["round"] - 1) if scored else ({}, None)
    return {
        "pooled": curve_metrics(score_part(chosen.sums)),
        "sites": {name: curve_metrics(score_part(sums)) for name, sums in sorted(sites.items())},
        "sites_after_round": after,
    }
