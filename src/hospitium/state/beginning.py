"""The first entry of a ledger: who will take part in what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hospitium.errors import StateConflictError
from hospitium.plan import Plan
from hospitium.state import durable
from hospitium.state.database import Database
from hospitium.state.run_log import log_append, utc_text
from hospitium.types import Json, Seat


def begin_run(
    folder: Path, *, run_id: str, plan: Plan, seats: Sequence[Seat], facts: Mapping[str, Json]
) -> None:
    """Write the first entry of a run.

    Raises:
        StateConflictError: There is a run in this folder already.
    """
    durable.make_folder(folder)
    database = Database(folder / "ledger.sqlite")
    try:
        if database.rows("SELECT 1 FROM run"):
            raise StateConflictError(
                f"{run_id}: there is a run of this name already. Nothing was changed. "
                f"Go on with it by `hospitium run resume {run_id}`, or choose another name."
            )
        with database.transaction("created") as change:
            change.execute(
                "INSERT INTO run (id, run_id, plan, plan_digest, seats, facts, created_utc) "
                "VALUES (1, ?, ?, ?, ?, ?, ?)",
                (
                    run_id,
                    plan.canonical,
                    plan.digest,
                    as_json([[seat.site_id, seat.num_cases] for seat in seats]),
                    as_json(facts),
                    utc_text(),
                ),
            )
            log_append(
                change,
                "run_begun",
                run_id=run_id,
                federation=str(facts.get("federation", "")),
                plan_digest=plan.digest,
                seats=[{"site_id": seat.site_id, "num_cases": seat.num_cases} for seat in seats],
            )
    finally:
        database.close()


def as_json(value: Any) -> str:
    """Return a value as the ledger holds it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=dict)
