"""Offering a plan: all that follows from the sites' numbers is filled in before it is signed.

Between machines nothing may be filled in after approval: a site approves one digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hospitium.errors import PlanError
from hospitium.imaging.fingerprint.data import Fingerprint, total
from hospitium.imaging.fingerprint.histograms import NONE
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.first_params import require_first_params
from hospitium.operations.plan_auto import read_fingerprints
from hospitium.plan import Plan, load_plan
from hospitium.plan.checking import check_plan
from hospitium.plan.schema import TrainingSection
from hospitium.plan.writing import to_toml
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.training.trainer import balanced_weights, sampling_rate
from hospitium.wire.approvals import sign_plan


def offer_plan(
    home: Home,
    federation: str,
    plan_path: Path,
    *,
    out: Path | None = None,
    num_cases: int | None = None,
    fingerprints: Sequence[Path] = (),
) -> dict[str, Any]:
    """Check a plan, fill in what follows from the sites' numbers, sign it, and offer it to all.

    Args:
        home: This installation.
        federation: Which federation.
        plan_path: The plan.
        out: Where to write the signed plan too, for sites that it is carried to.
        num_cases: Training cases of all sites together.
        fingerprints: Or their data fingerprints: subjects then stand for training cases.

    Returns:
        The digest, and ``resolved``: the file of the plan with the values that were filled in,
        beside the plan's own; empty where nothing was.

    Raises:
        PlanError: The plan has problems, or a value is missing that nobody can fill in.
    """
    desk = existing(home, federation)
    members = desk.members()
    given = load_plan(plan_path)
    found = total(read_fingerprints(fingerprints)) if fingerprints else None
    num_sites = len(fingerprints) or len(members.sites)
    plan = _resolved(given, num_sites=num_sites, num_cases=num_cases, found=found)
    check_plan(plan, num_sites=len(members.sites) or None)
    if plan.plugin_sha256:
        raise PlanError(["plugin_sha256: a plug-in runs in_process only, never between machines"])
    require_first_params(plan)
    resolved = ""
    if plan != given:
        beside = plan_path.with_name(f"{plan_path.stem}.{plan.digest[:12]}.toml")
        text = to_toml(plan, comments=True).encode()
        durable.write_atomically(beside, lambda file: str(file.write(text)))
        resolved = str(beside)
    envelope = sign_plan(plan.canonical, coordinator_key(desk))
    if out is not None:
        durable.write_atomically(out, lambda file: str(file.write(envelope)))
    desk.offer(plan.digest, envelope)
    return {
        "path": "" if out is None else str(out),
        "plan_digest": plan.digest,
        "name": plan.name,
        "resolved": resolved,
    }


def unresolved(plan: Plan) -> Plan:
    """Return a plan without the values that `offer_plan` fills in: what its author wrote."""
    training, default = plan.training, TrainingSection()
    return replace(
        plan,
        training=replace(
            training,
            sampling_rate=default.sampling_rate
            if training.batching == "proportional"
            else training.sampling_rate,
            class_weights=default.class_weights
            if training.class_weighting == "balanced"
            else training.class_weights,
        ),
    )


def _resolved(
    plan: Plan, *, num_sites: int, num_cases: int | None, found: Fingerprint | None
) -> Plan:
    training, problems = plan.training, []
    if training.class_weighting == "balanced" and not training.class_weights:
        counts = _class_counts(plan, found)
        if counts:
            training = replace(training, class_weights=balanced_weights(counts))
        else:
            problems.append(
                'training.class_weighting = "balanced" needs the numbers of all sites before any '
                "of them approves: give the sites' data fingerprints, which hold cases of every "
                "class (--fingerprint FILE, once for each), or write training.class_weights into "
                "the plan"
            )
    if training.batching == "proportional" and training.sampling_rate == 0:
        cases = num_cases or (found.num_subjects if found else 0)
        if cases and num_sites:
            rate = sampling_rate(training.batch_size, num_sites=num_sites, num_cases=cases)
            training = replace(training, sampling_rate=rate)
        else:
            problems.append(
                'training.batching = "proportional" needs the number of training cases before any '
                "site approves: say how many all sites have together (--cases N, or --fingerprint "
                "FILE once for each site), or write training.sampling_rate into the plan, or "
                'batching = "equal"'
            )
    if problems:
        raise PlanError(problems, where=f"plan {plan.name!r}")
    return replace(plan, training=training)


def _class_counts(plan: Plan, found: Fingerprint | None) -> dict[str, int]:
    """Return the subjects of each class; empty where one of the plan's classes is unknown."""
    cells = {} if found is None else {k: v for k, v in found.of("class").items() if k != NONE}
    counts = {name: cells.get(name, 0) for name in plan.task.classes}
    return counts if all(counts.values()) else {}
