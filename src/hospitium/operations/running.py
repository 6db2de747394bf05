"""Taking a run to its end: rounds, the score of the last params, and the choice of the result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hospitium import algorithms, federation
from hospitium.engines.in_process import InProcess, LocalSite
from hospitium.engines.workers import WorkerPool
from hospitium.errors import (
    CorruptedError,
    EngineError,
    PlanError,
    PluginError,
    QuorumError,
    StorageError,
    UpdateError,
)
from hospitium.evaluation.score_sums import layout
from hospitium.operations.progress import RunProgress, Say
from hospitium.operations.scores import score_of, score_part, threshold_of
from hospitium.plan import Plan
from hospitium.state import durable
from hospitium.state.home import locked
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.training import trainer_for
from hospitium.training.plugins import Plugin, load_plugin
from hospitium.types import Algorithm, LeftOut, Params, Task
from hospitium.wire import blob


def run_to_end(folder: Path, *, pool: WorkerPool, say: Say, label: str) -> Chosen:
    """Go on with a run, or begin it, until it is finished; return which params it came to.

    Args:
        folder: The run's folder, made by `starting.create_run`.
        pool: Worker processes for the sites.
        say: Where progress goes.
        label: What people call this run.

    Raises:
        RunBusyError: Another process is working on it.
        QuorumError: Too few sites answered; the run can be resumed.
    """
    with locked(folder):
        ledger = open_ledger(folder)
        try:
            done = ledger.chosen()
            return done if done is not None else _train(ledger, pool=pool, say=say, label=label)
        except (KeyboardInterrupt, EngineError):
            pool.close()  # whoever stops leaves no worker that writes, and no half file
            with suppress(StorageError):
                _sweep(folder)
            raise
        finally:
            ledger.close()


def _sweep(folder: Path) -> None:
    """Delete the half files of a run, whose lock is held."""
    for place in ("store", "sites"):
        durable.sweep(folder / place)


def open_ledger(folder: Path) -> RunLedger:
    """Open a run's ledger with the metric that its plan chooses by."""
    ledger = RunLedger(folder)
    ledger.score_of = score_of(ledger.plan)
    return ledger


def sites_of(ledger: RunLedger) -> list[LocalSite]:
    """Return the sites of a run on this machine."""
    cases: Mapping[str, str] = ledger.facts["cases"]  # type: ignore[assignment]
    return [
        LocalSite(
            site_id=seat.site_id,
            cases=(ledger.folder / cases[seat.site_id]).resolve(),
            folder=ledger.folder / "sites" / seat.site_id,
            num_cases=seat.num_cases,
        )
        for seat in ledger.seats
    ]


def plugin_of(plan: Plan, path: str) -> Plugin:
    """Load the plug-in that a plan was agreed with.

    Raises:
        PluginError: The file is not the one of the plan any more.
    """
    if not plan.plugin_sha256:
        return Plugin()
    plugin = load_plugin(Path(path))
    if plugin.sha256 != plan.plugin_sha256:
        raise PluginError(
            f"{path}: the plug-in file has changed since this run began (SHA-256 "
            f"{plugin.sha256[:12]}… found, {plan.plugin_sha256[:12]}… expected). Nothing was "
            "changed. Bring the old file back to resume the run, or start a new run."
        )
    return plugin


def first_params(plan: Plan, plugin: Plugin, *, init_file: str = "") -> Params:
    """Return the first params: drawn from the plan's seed, or from its file, checked by digest.

    Args:
        plan: Names the model, and the file.
        plugin: May hold the model.
        init_file: Where that file was when the run began; empty takes the plan's own path.

    Raises:
        PlanError: The file or the digest does not fit the plan's model.
    """
    drawn = trainer_for(plan, plugin=plugin, device="cpu").first_params()
    params = drawn
    if plan.model.init_file:
        try:
            params = dict(blob.read(Path(init_file or plan.model.init_file)))
        except (OSError, CorruptedError) as error:
            raise PlanError([f"model.init_file: {error}"]) from error
        if blob.manifest_of(params) != blob.manifest_of(drawn):
            lacks = sorted(set(drawn) - set(params))
            adds = sorted(set(params) - set(drawn))
            raise PlanError(
                [
                    f"model.init_file does not hold the params of {plan.model.name}: it lacks "
                    f"{lacks or 'none'}, adds {adds or 'none'}, or has other shapes"
                ]
            )
    found = blob.digest_of(params)
    if plan.model.init_sha256 not in ("", found):
        raise PlanError([f"model.init_sha256: the first params have the digest {found}"])
    return params


def _train(ledger: RunLedger, *, pool: WorkerPool, say: Say, label: str) -> Chosen:
    plan = ledger.plan
    _sweep(ledger.folder)
    plugin = plugin_of(plan, str(ledger.facts.get("plugin", "")))
    algorithm = algorithms.build(
        plan,
        run_id=ledger.run_id,
        seats=ledger.seats,
        first_params=lambda: first_params(
            plan, plugin, init_file=str(ledger.facts.get("init_file", ""))
        ),
        plugins=plugin.algorithms,
        sum_lengths=layout(len(plan.task.classes)),
    )
    sites = sites_of(ledger)
    for site in sites:
        site.folder.mkdir(parents=True, exist_ok=True)
    engine = InProcess(
        plan,
        sites=sites,
        store=ledger.store,
        pool=pool,
        plugin=Path(plugin.path) if plugin.path else None,
    )
    try:
        federation.run(plan, algorithm, engine, ledger, RunProgress(say, label=label))
        chosen = _choose(ledger, algorithm, engine)
    finally:
        engine.close()
    ledger.finished(chosen)
    return chosen


def _choose(ledger: RunLedger, algorithm: Algorithm, engine: InProcess) -> Chosen:
    """Have the last params (and their running average) scored, and choose by the plan's rule."""
    plan, last = ledger.plan, ledger.last_closed
    candidates: list[tuple[int, str, Mapping[str, tuple[int, ...]]]] = []
    state = ledger.state_after(last)
    sums, without = _score(ledger, algorithm, engine, state.params)
    ledger.scored(last, sums)
    candidates.append((last, "params", sums))
    if plan.evaluation.choose == "best" and ledger.best_round() != last:
        best = ledger.best_round()
        kept = ledger.state_after(best).params
        sums, more = _score(ledger, algorithm, engine, kept)
        candidates.append((best, "params", sums))
        without += more
    if "ema" in state.slots:
        sums, more = _score(ledger, algorithm, engine, state.slots["ema"])
        candidates.append((last, "ema", sums))
        without += more
    score = score_of(plan)
    number, slot, chosen_sums = candidates[0]
    reason = f"The plan says so: the params of the last round, {last}."
    if plan.evaluation.choose == "best":
        number, slot, chosen_sums = max(
            candidates, key=lambda item: (_or_worst(score(item[2])), item[0])
        )
        what = (
            "the running average of the params"
            if slot == "ema"
            else f"the params of round {number}"
        )
        reason = (
            f"Of the params of all rounds, {what} had the best validation {plan.evaluation.metric}."
        )
    elif plan.algorithm.ema > 0:
        number, slot, chosen_sums = candidates[-1]
        reason = "The plan says so: the running average of the params after the last round."
    return Chosen(
        round_number=number,
        slot=slot,
        digest=ledger.digests_after(number)[slot],
        reason=reason + _not_scored_by(without),
        threshold=threshold_of(plan, chosen_sums),
        sums=chosen_sums,
    )


def _not_scored_by(without: Sequence[str]) -> str:
    """Say whose validation cases the last scores and the threshold do without."""
    if not without:
        return ""
    return f" Scores and threshold are without {', '.join(dict.fromkeys(without))}."


def _or_worst(score: float | None) -> float:
    return -math.inf if score is None else score


def _score(
    ledger: RunLedger, algorithm: Algorithm, engine: InProcess, params: Params
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Return the validation sums of some params, and which sites they are without, and why."""
    task = Task(
        run_id=ledger.run_id,
        round_number=ledger.plan.rounds.count + 1,
        plan_digest=ledger.plan.digest,
        params=params,
        base_digest=blob.digest_of(params),
        max_norm=1.0,
        purpose="score",
    )
    aggregate = algorithm.aggregate(task)
    without: list[str] = []
    site_ids = engine.select(round_number=task.round_number)
    for answer in engine.ask(task, site_ids, deadline_s=ledger.plan.rounds.deadline_s):
        if isinstance(answer, LeftOut):
            without.append(f"{answer.site_id} ({answer.reason})")
            continue
        try:
            aggregate.add(answer)
        except UpdateError as error:  # a site that answers wrongly is as good as silent
            without.append(f"{answer.site_id} ({error.reason})")
    if aggregate.num_sites < ledger.plan.rounds.quorum:
        raise QuorumError(
            f"Last score: {aggregate.num_sites} of {len(site_ids)} sites scored the params; the "
            f"plan's quorum is {ledger.plan.rounds.quorum}. Without a score: "
            f"{'; '.join(without)}. All rounds are closed and kept. The study lead: bring these "
            f"sites back and resume the run with `hospitium run resume {ledger.run_id}`."
        )
    return score_part(aggregate.result().sums), without
