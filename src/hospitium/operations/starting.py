"""From prepared cases to a run that can begin: seats, the resolved plan, the first ledger entry."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hospitium.errors import DataError, PluginError, UsageError
from hospitium.imaging.cache import CaseFacts, read_facts, write_cases
from hospitium.imaging.cases import Cases
from hospitium.operations.admission import admit_local
from hospitium.plan import Plan
from hospitium.plan.checking import check_plan
from hospitium.plan.reading import plan_from_dict
from hospitium.state.ledger import RunLedger
from hospitium.training.plugins import Plugin
from hospitium.training.trainer import balanced_weights, sampling_rate
from hospitium.types import Json, Seat

_MODEL_NAMES = frozenset({"federated", "pooled", "ensemble", "local_only"})


@dataclass(frozen=True, kw_only=True)
class PreparedSite:
    """A site with its prepared cases on disk."""

    site_id: str
    cases_folder: Path
    facts: CaseFacts

    @property
    def num_cases(self) -> int:
        """How many training cases the site enrols with."""
        return sum(self.facts.splits["train"].values())


def with_plugin(plan: Plan, plugin: Plugin) -> Plan:
    """Return the plan with the digest of the plug-in that it is run with.

    Raises:
        PluginError: The plan names another plug-in, or one where none is given.
    """
    if plan.plugin_sha256 not in ("", plugin.sha256):
        found = f"{plugin.sha256[:12]}…" if plugin.sha256 else "none"
        raise PluginError(
            f"Plan {plan.name!r}: it was agreed with the plug-in {plan.plugin_sha256[:12]}…, given "
            f"is {found}. Nothing was started. Give that file with --plugin."
        )
    return replace(plan, plugin_sha256=plugin.sha256)


def require_free_names(site_ids: Iterable[str]) -> None:
    """Refuse a site whose name means a model in every report.

    Raises:
        UsageError: It says which name.
    """
    taken = sorted(set(site_ids) & _MODEL_NAMES)
    if taken:
        raise UsageError(
            f"A site cannot be called {taken[0]!r}: in a report this names a model. Nothing was "
            "started. Give the site another name."
        )


def prepare_site(site_id: str, cases: Cases, folder: Path) -> PreparedSite:
    """Write a site's cases where its worker will map them."""
    facts = write_cases(folder, cases)
    return PreparedSite(site_id=site_id, cases_folder=folder, facts=facts)


def opened_site(site_id: str, folder: Path) -> PreparedSite:
    """Return a site whose cases were prepared before."""
    return PreparedSite(site_id=site_id, cases_folder=folder, facts=read_facts(folder))


def resolve(plan: Plan, sites: Sequence[PreparedSite]) -> Plan:
    """Return the plan with the values that follow from the sites' counts, the same at every site.

    Balanced class weights are those of all training cases together; the sampling rate is that at
    which the sites' batches together are as large as ``batch_size`` at each of them.
    """
    training = plan.training
    if training.class_weighting == "balanced" and not training.class_weights:
        totals = dict.fromkeys(plan.task.classes, 0)
        for site in sites:
            for name, count in site.facts.splits["train"].items():
                totals[name] += count
        training = replace(training, class_weights=balanced_weights(totals))
    if training.batching == "proportional" and training.sampling_rate == 0:
        num_cases = sum(site.num_cases for site in sites)
        rate = sampling_rate(training.batch_size, num_sites=len(sites), num_cases=num_cases)
        training = replace(training, sampling_rate=rate)
    return replace(plan, training=training)


def create_run(
    folder: Path,
    *,
    run_id: str,
    plan: Plan,
    sites: Sequence[PreparedSite],
    facts: Mapping[str, Json],
    plugin: Plugin | None = None,
) -> Plan:
    """Check a plan against its sites and write the first entry of its ledger; return the plan run.

    Raises:
        PlanError: The plan has problems; all are listed, and nothing was written.
        DataError: A site has no training cases.
        ReaderError: A site reads the shipped test series into other numbers.
    """
    empty = [site.site_id for site in sites if site.num_cases == 0]
    if empty:
        raise DataError(
            f"{run_id}: no training cases at {', '.join(empty)}. Nothing was started. "
            "Leave these sites out, or add cases whose split is train."
        )
    plan = resolve(plan, sites)
    plan_from_dict(plan.as_dict(), where=f"plan {plan.name!r}")  # it must read back from the ledger
    check_plan(plan, num_sites=len(sites), extra=plugin.extra if plugin else None)
    named = plan.model.init_file
    init_file = str(facts.get("init_file") or (Path(named).resolve() if named else ""))
    readers = admit_local(site.site_id for site in sites)
    places = {site.site_id: os.path.relpath(site.cases_folder, folder) for site in sites}
    RunLedger.create(
        folder,
        run_id=run_id,
        plan=plan,
        seats=[Seat(site_id=site.site_id, num_cases=site.num_cases) for site in sites],
        facts={
            **facts,
            "readers": readers,
            "cases": places,
            "init_file": init_file,
            "plugin": plugin.path if plugin else "",
        },
    )
    return plan
