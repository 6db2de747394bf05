"""Taking a run to its end, wherever its sites are: first params, rounds, and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hospitium import algorithms, buffers, federation
from hospitium.algorithms.seated import Seated
from hospitium.engines.in_process import InProcess, LocalSite
from hospitium.engines.workers import WorkerPool
from hospitium.errors import (
    EngineError,
    InterruptedRunError,
    PluginError,
    QuorumError,
    StorageError,
)
from hospitium.evaluation.score_sums import layout
from hospitium.operations.choosing import choose
from hospitium.operations.first_params import first_params
from hospitium.operations.halting import Halting
from hospitium.operations.progress import RunProgress, Say
from hospitium.operations.reviewing import Reviewer
from hospitium.operations.scores import score_of
from hospitium.plan import Plan
from hospitium.state import durable
from hospitium.state.home import locked
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.training.plugins import Plugin, load_plugin
from hospitium.types import Algorithm, Engine, Seat


class Engines(Protocol):
    """Where the sites of a run are: what opens an engine to them, and stops all work for it."""

    def open(self, ledger: RunLedger) -> Engine:
        """Return an engine to the sites of this run."""

    def stop(self) -> None:
        """Stop whatever still works for it; safe to call twice."""


class OnThisMachine:
    """All sites on this machine, in worker processes that other runs may use too."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def open(self, ledger: RunLedger) -> Engine:
        """Return an engine to the simulated sites of a run; each gets a folder."""
        sites = sites_of(ledger)
        for site in sites:
            site.folder.mkdir(parents=True, exist_ok=True)
        plugin = str(ledger.facts.get("plugin", ""))
        return InProcess(
            ledger.plan,
            sites=sites,
            store=ledger.store,
            pool=self._pool,
            plugin=Path(plugin) if plugin else None,
        )

    def stop(self) -> None:
        """Stop the workers, so that nobody writes any more."""
        self._pool.close()


def run_to_end(folder: Path, *, engines: Engines, say: Say, label: str) -> Chosen:
    """Go on with a run, or begin it, until it is finished; return which params it came to.

    Args:
        folder: The run's folder, made by `starting.create_run` or `networked.start`.
        engines: Where its sites are.
        say: Where progress goes.
        label: What people call this run.

    Raises:
        RunBusyError: Another process is working on it.
        QuorumError: Too few sites answered; the run can be resumed.
        InterruptedRunError: A person paused or stopped it.
    """
    return _held(folder, lambda ledger: _train(ledger, engines, say=say, label=label), engines)


def run_canary(folder: Path, *, engines: Engines, say: Say, label: str) -> Chosen:
    """Run one round of a plan from end to end, to see that every site answers.

    It is a run of its own; its params are nobody's result. Raises what `run_to_end` does.
    """
    return _held(folder, lambda ledger: _one_round(ledger, engines, say=say, label=label), engines)


def _held(folder: Path, work: Callable[[RunLedger], Chosen], engines: Engines) -> Chosen:
    """Work on a run that nobody else works on, unless it is done."""
    with locked(folder):
        ledger = open_ledger(folder)
        try:
            done = ledger.chosen()
            if done is None:
                _sweep(folder)
                done = work(ledger)
                ledger.finished(done)
            return done
        except (KeyboardInterrupt, EngineError, InterruptedRunError):
            engines.stop()  # whoever stops leaves no worker that writes, and no half file
            with suppress(StorageError):
                _sweep(folder)
            raise
        finally:
            ledger.close()
            buffers.give_up()


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


def _train(ledger: RunLedger, engines: Engines, *, say: Say, label: str) -> Chosen:
    algorithm = _algorithm(ledger)
    engine = Halting(engines.open(ledger), ledger.folder)
    try:
        progress, review = RunProgress(say, label=label), Reviewer(ledger)
        federation.run(ledger.plan, algorithm, engine, ledger, progress, review)
        return choose(ledger, algorithm, engine)
    finally:
        engine.close()


def _one_round(ledger: RunLedger, engines: Engines, *, say: Say, label: str) -> Chosen:
    first = replace(ledger.plan, rounds=replace(ledger.plan.rounds, count=1))
    algorithm = _algorithm(ledger)  # of the whole plan: every site is asked under its digest
    engine = Halting(engines.open(ledger), ledger.folder)
    try:
        federation.run(first, algorithm, engine, ledger, RunProgress(say, label=label))
    except QuorumError as error:  # a canary follows the run that it is for
        main = str(ledger.facts.get("canary_of", ledger.run_id))
        words = str(error).replace(f"run resume {ledger.run_id}`", f"run resume {main}`")
        raise QuorumError(f"The canary of {main}: {words}") from error
    finally:
        engine.close()
    return Chosen(
        round_number=1,
        slot="params",
        digest=ledger.digests_after(1)["params"],
        reason="One round, to see that every site answers; these params are not used.",
        threshold=None,
        sums={},
    )


def _algorithm(ledger: RunLedger) -> Algorithm:
    """Return the algorithm of a run; its weights follow the seats of each round."""
    plan = ledger.plan
    plugin = plugin_of(plan, str(ledger.facts.get("plugin", "")))
    init_file = str(ledger.facts.get("init_file", ""))

    def build(seats: Sequence[Seat]) -> Algorithm:
        return algorithms.build(
            plan,
            run_id=ledger.run_id,
            seats=seats,
            first_params=lambda: first_params(plan, plugin, init_file=init_file),
            plugins=plugin.algorithms,
            sum_lengths=layout(len(plan.task.classes)),
        )

    return Seated(build=build, seats_of=ledger.seats_of)
