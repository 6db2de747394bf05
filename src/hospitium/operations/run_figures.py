"""What every report says of a run, wherever its sites are: its times, its traffic, its curve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hospitium.evaluation.score_sums import curve_metrics
from hospitium.operations.running import open_ledger
from hospitium.operations.scores import score_part
from hospitium.state import durable, history
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.types import Task, Update
from hospitium.wire import blob
from hospitium.wire.envelope import encode_task, encode_update


def write_model(ledger: RunLedger, chosen: Chosen, out: Path) -> Path:
    """Write the params that a run came to beside its report; return the file."""
    model = out / "model.safetensors"
    source = ledger.store.path(chosen.digest)
    durable.write_atomically(model, lambda file: _copy(source, file))
    return model


def _copy(source: Path, file: BinaryIO) -> str:
    """Copy a file into an open one."""
    with source.open("rb") as opened:
        shutil.copyfileobj(opened, file)
    return source.name


def worked_s(ledger: RunLedger) -> float:
    """Return the seconds in which rounds of the run or of a baseline were under way."""
    spans = history.spans(ledger)
    for place in sorted((ledger.folder / "baselines").glob("*/")):
        if RunLedger.exists(place):
            baseline = open_ledger(place)
            spans += history.spans(baseline)
            baseline.close()
    total, until = 0.0, ledger.created
    for begin, end in sorted(spans):
        total += max(0.0, (end - max(begin, until)).total_seconds())
        until = max(until, end)
    return total


def outcome_of(row: Mapping[str, Any]) -> str:
    """Return what became of a round in which somebody was left out or refused, in words."""
    refused = "; ".join(f"{item['site_id']} refused ({item['reason']})" for item in row["refused"])
    attempts = f"{row['attempts']} attempts" if row["attempts"] > 1 else ""
    closed = "the round was closed without those left out" if row["left_out"] else ""
    return "; ".join(part for part in (refused, attempts, closed) if part)


def task_bytes(ledger: RunLedger) -> tuple[int, int]:
    """Return the bytes of one task, and of one update whose envelope holds the last round's sums.

    Files and envelopes together.
    """
    params = ledger.state_after(ledger.last_closed).params
    task = Task(
        run_id=ledger.run_id,
        round_number=ledger.last_closed,
        plan_digest=ledger.plan.digest,
        params=params,
        base_digest=blob.digest_of(params),
        max_norm=ledger.plan.algorithm.max_norm,
    )
    file = blob.size_of(blob.manifest_of(params))
    found = [row["sums"] for row in history.scores(ledger) if row["sums"]]
    update = Update(
        run_id=task.run_id,
        round_number=task.round_number,
        site_id=ledger.seats[0].site_id,
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        num_cases=ledger.seats[0].num_cases,
        delta=params,
        sums={name: tuple(values) for name, values in (found[-1] if found else {}).items()},
    )
    envelope = encode_update(update, blob_digest=task.base_digest)
    return file + len(encode_task(task)), file + len(envelope)


def curve(ledger: RunLedger, chosen: Chosen) -> list[dict[str, Any]]:
    """Return how good the params were that each round began with, together and per site."""
    points = []
    rows = [(row["round"] - 1, row["sums"], row["sites"]) for row in history.scores(ledger)]
    if chosen.slot == "params" and chosen.round_number == ledger.last_closed:
        sites = history.last_scores(ledger, chosen.digest)
        rows.append((chosen.round_number, chosen.sums, sites))
    for behind, sums, sites in rows:
        part = score_part(sums)
        if not part:
            continue  # a round in which the plan asks for no scores
        figures = curve_metrics(part)
        each = {name: curve_metrics(score_part(own)) for name, own in sites.items()}
        points.append(
            {
                "round": behind,
                "auroc": figures["auroc"],
                "loss": figures["loss"],
                "sites": {
                    name: {"auroc": part["auroc"], "n": part["n"]} for name, part in each.items()
                },
            }
        )
    return points
