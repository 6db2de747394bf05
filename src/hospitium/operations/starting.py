"""From prepared cases to a run that can begin: seats, the resolved plan, the first ledger entry."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hospitium.errors import DataError
from hospitium.imaging.cache import CaseFacts, read_facts, write_cases
from hospitium.imaging.cases import Cases
from hospitium.plan import Plan
from hospitium.plan.checking import check_plan
from hospitium.state.ledger import RunLedger
from hospitium.training.plugins import Plugin
from hospitium.training.trainer import balanced_weights
from hospitium.types import Json, Seat


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


def prepare_site(site_id: str, cases: Cases, folder: Path) -> PreparedSite:
    """Write a site's cases where its worker will map them."""
    facts = write_cases(folder, cases)
    return PreparedSite(site_id=site_id, cases_folder=folder, facts=facts)


def opened_site(site_id: str, folder: Path) -> PreparedSite:
    """Return a site whose cases were prepared before."""
    return PreparedSite(site_id=site_id, cases_folder=folder, facts=read_facts(folder))


def resolve(plan: Plan, sites: Sequence[PreparedSite]) -> Plan:
    """Return the plan with the values that follow from the sites' counts.

    Balanced class weights are those of all sites' training cases together: the same at every site.
    """
    if plan.training.class_weighting != "balanced" or plan.training.class_weights:
        return plan
    totals = dict.fromkeys(plan.task.classes, 0)
    for site in sites:
        for name, count in site.facts.splits["train"].items():
            totals[name] += count
    training = replace(plan.training, class_weights=balanced_weights(totals))
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
    """
    empty = [site.site_id for site in sites if site.num_cases == 0]
    if empty:
        raise DataError(
            f"{run_id}: no training cases at {', '.join(empty)}. Nothing was started. "
            "Leave these sites out, or add cases whose split is train."
        )
    plan = resolve(plan, sites)
    check_plan(plan, num_sites=len(sites), extra=plugin.extra if plugin else None)
    places = {site.site_id: os.path.relpath(site.cases_folder, folder) for site in sites}
    RunLedger.create(
        folder,
        run_id=run_id,
        plan=plan,
        seats=[Seat(site_id=site.site_id, num_cases=site.num_cases) for site in sites],
        facts={**facts, "cases": places, "plugin": plugin.path if plugin else ""},
    )
    return plan
