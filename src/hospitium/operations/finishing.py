"""Taking a run all the way: rounds, baselines, report; what was done is not done again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.evaluation.report_words import summary_sentence
from hospitium.operations.baselines import run_baselines
from hospitium.operations.progress import Say
from hospitium.operations.reporting import write_comparison
from hospitium.operations.run_figures import write_model
from hospitium.operations.running import OnThisMachine, open_ledger, run_to_end


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run came to: its report, the files that hold it, and what was learnt in a sentence."""

    report: dict[str, Any]
    page: Path
    model: Path
    sentence: str


def finish_run(folder: Path, *, say: Say, num_workers: int = 0) -> Finished:
    """Train the federation of a run, then its baselines, then write the report.

    Whatever is done already is not done again. Workers are stopped before this returns or raises.

    Args:
        folder: The run's folder.
        say: Where progress goes.
        num_workers: Worker processes; 0 means one for each core.

    Raises:
        QuorumError: Too few sites answered in a round; the run can be resumed.
        RunBusyError: Another process is working on it.
    """
    pool = WorkerPool(answer_request, num_workers=num_workers)
    try:
        say({"kind": "stage", "text": "Training the shared model"})
        run_to_end(folder, engines=OnThisMachine(pool), say=say, label="federated")
        ledger = open_ledger(folder)
        try:
            say({"kind": "stage", "text": "Training the comparison: each alone, and pooled"})
            baselines = run_baselines(ledger, pool=pool, say=say)
            pool.close()
            say({"kind": "stage", "text": "Measuring all models on the test cases"})
            out = Path(str(ledger.facts.get("out") or folder / "report"))
            report, page = write_comparison(ledger, baselines=baselines, out=out)
            chosen = ledger.chosen()
            assert chosen is not None
            model = write_model(ledger, chosen, out)
        finally:
            ledger.close()
    finally:
        pool.close()
    return Finished(report=report, page=page, model=model, sentence=summary_sentence(report))
