"""From a finished run and its baselines to ``report.json`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.evaluation.comparison import ModelScores, TestSet, compare
from hospitium.evaluation.metrics import youden_threshold
from hospitium.evaluation.report import write_report
from hospitium.evaluation.report_shape import SCHEMA_VERSION
from hospitium.operations.baselines import POOLED
from hospitium.operations.held_updates import review_part
from hospitium.operations.predicting import CaseFolder, labels_of, predict
from hospitium.operations.protections import protections
from hospitium.operations.run_figures import curve, outcome_of, task_bytes, worked_s
from hospitium.operations.running import open_ledger, plugin_of, sites_of
from hospitium.operations.versions import versions
from hospitium.site.departures import LOG, Departures
from hospitium.state import history
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.training import Trainer, trainer_for
from hospitium.types import Params


def write_comparison(
    ledger: RunLedger, *, baselines: Mapping[str, Chosen], out: Path
) -> tuple[dict[str, Any], Path]:
    """Score all models on the test cases and write the report; return it and the page's path."""
    plan = ledger.plan
    plugin = plugin_of(plan, str(ledger.facts.get("plugin", "")))
    scorer = _Scorer(ledger, trainer_for(plan, plugin=plugin))
    chosen = ledger.chosen()
    assert chosen is not None, "a report is written of a finished run"
    local_only = {
        site_id: scorer.model(scorer.baseline(site_id, found), threshold=found.threshold)
        for site_id, found in baselines.items()
        if site_id != POOLED
    }
    pooled = baselines.get(POOLED)
    figures = compare(
        joint=labels_of(scorer.joint, "test"),
        own={site_id: labels_of(folder, "test") for site_id, folder in scorer.own.items()},
        classes=plan.task.classes,
        federated=scorer.model(ledger.store.get(chosen.digest), threshold=chosen.threshold),
        local_only=local_only,
        ensemble=scorer.ensemble(local_only, baselines),
        pooled=None
        if pooled is None
        else scorer.model(scorer.baseline(POOLED, pooled), threshold=pooled.threshold),
        seed=plan.seed,
    )
    report = {**_facts(ledger, chosen), **figures}
    _, page = write_report(out, report)
    return report, page


def joint_scores(folder: Path) -> tuple[TestSet, dict[str, npt.NDArray[np.floating[Any]]]]:
    """Return the joint test set of a finished run, and what its models say about each case.

    For studies over several runs, which need more than a report: ``federated``, ``pooled`` where
    there is one, and each site's own model by ``site_id``; probabilities ``(case, class)``.
    """
    ledger = open_ledger(folder)
    try:
        plan = ledger.plan
        plugin = plugin_of(plan, str(ledger.facts.get("plugin", "")))
        scorer = _Scorer(ledger, trainer_for(plan, plugin=plugin))
        chosen = ledger.chosen()
        assert chosen is not None, "the run is finished"
        models = {"federated": ledger.store.get(chosen.digest)}
        for place in sorted((folder / "baselines").iterdir()):
            baseline = open_ledger(place)
            found = baseline.chosen()
            if found is not None:
                models[place.name] = baseline.store.get(found.digest)
            baseline.close()
        said = {name: scorer.model(params, threshold=None) for name, params in models.items()}
        return labels_of(scorer.joint, "test"), {name: each.joint for name, each in said.items()}
    finally:
        ledger.close()


class _Scorer:
    """Has models look at test cases: the sites' own, and the joint ones."""

    def __init__(self, ledger: RunLedger, trainer: Trainer) -> None:
        self._ledger = ledger
        self._trainer = trainer
        sites = {site.site_id: site.cases for site in sites_of(ledger)}
        self.own = {name: CaseFolder(cases=path, statistics=path) for name, path in sites.items()}
        pooled = ledger.folder / "baselines" / POOLED / "cases"
        statistics = pooled if pooled.exists() else next(iter(sites.values()))
        self.joint = CaseFolder(cases=ledger.folder / "joint", statistics=statistics)

    def baseline(self, name: str, chosen: Chosen) -> Params:
        """Return the params that a baseline came to."""
        ledger = open_ledger(self._ledger.folder / "baselines" / name)
        try:
            return ledger.store.get(chosen.digest)
        finally:
            ledger.close()

    def model(self, params: Params, *, threshold: float | None) -> ModelScores:
        """Return what a model says about all test cases."""
        plan, trainer = self._ledger.plan, self._trainer
        return ModelScores(
            joint=predict(plan, trainer, params, self.joint),
            own={name: predict(plan, trainer, params, folder) for name, folder in self.own.items()},
            threshold=threshold,
        )

    def ensemble(
        self, models: Mapping[str, ModelScores], baselines: Mapping[str, Chosen]
    ) -> ModelScores:
        """Return the mean of the local models' probabilities: "round 0" of a federation."""
        return ModelScores(
            joint=_mean([model.joint for model in models.values()]),
            own={name: _mean([model.own[name] for model in models.values()]) for name in self.own},
            threshold=self._ensemble_threshold(baselines),
        )

    def _ensemble_threshold(self, baselines: Mapping[str, Chosen]) -> float | None:
        """Return Youden's threshold of the ensemble on all sites' validation cases."""
        plan = self._ledger.plan
        if len(plan.task.classes) != 2:
            return None
        trained = {name: found for name, found in baselines.items() if name != POOLED}
        params = [self.baseline(name, found) for name, found in trained.items()]
        scores, positive = [], []
        for folder in self.own.values():
            said = [predict(plan, self._trainer, each, folder, "val") for each in params]
            scores.append(_mean(said)[:, 1])
            positive.append(labels_of(folder, "val").labels == 1)
        return youden_threshold(np.concatenate(scores), np.concatenate(positive))


def _mean(parts: Sequence[Any]) -> Any:
    return np.mean(parts, axis=0)


def _facts(ledger: RunLedger, chosen: Chosen) -> dict[str, Any]:
    """Return all of the report that is not a figure of the comparison."""
    plan, facts = ledger.plan, ledger.facts
    rounds = history.participation(ledger)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": ledger.run_id,
        "plan_digest": plan.digest,
        "task": "binary" if len(plan.task.classes) == 2 else "multiclass",
        "classes": list(plan.task.classes),
        "rounds": plan.rounds.count,
        "wall_s": round(worked_s(ledger), 1),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "partition": facts.get("partition", {"name": "given", "sites": {}}),
        "sites": [{"site_id": seat.site_id, "num_cases": seat.num_cases} for seat in ledger.seats],
        "participation": [
            {key: row[key] for key in ("round", "asked", "answered", "left_out")}
            | ({"outcome": outcome_of(row)} if row["left_out"] or row["refused"] else {})
            for row in rounds
        ],
        "review": review_part(ledger),
        "interruptions": history.interruptions(ledger),
        "traffic": _traffic(ledger),
        "curve": curve(ledger, chosen),
        "chosen_round": {"round": chosen.round_number, "reason": chosen.reason},
        "seeds": {"plan": plan.seed, "first params": plan.model.init_seed},
        "command": facts.get("command", ""),
        "protections": protections(plan),
        "plugins": [{"name": Path(str(facts["plugin"])).name, "sha256": plan.plugin_sha256}]
        if plan.plugin_sha256
        else [],
        "versions": versions(),
    }


def _traffic(ledger: RunLedger) -> dict[str, int]:
    """Return the bytes of one task and of one update, files and envelopes together."""
    down, _ = task_bytes(ledger)
    largest = 0
    for site in sites_of(ledger):
        leaves = (row.line.leaf for row in Departures(site.folder / LOG).rows())
        sizes = [leaf["bytes"] for leaf in leaves if leaf["kind"] == "update"]
        largest = max([largest, *sizes])
    return {"bytes_down_per_site_per_round": down, "bytes_up_per_site_per_round": largest}
