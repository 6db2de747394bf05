"""From the fingerprints of several sites to a plan that a person edits and signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hospitium.errors import DataError, UsageError
from hospitium.imaging.fingerprint.data import Fingerprint, total
from hospitium.imaging.fingerprint.proposal import Proposal, propose
from hospitium.imaging.fingerprint.release import MAX_BYTES, from_bytes, to_bytes
from hospitium.plan import Plan
from hospitium.plan.checking import problems_of
from hospitium.plan.writing import template, to_toml
from hospitium.state import durable


def auto_plan(paths: Sequence[Path], *, template_name: str, out: Path | None) -> dict[str, Any]:
    """Add fingerprints up and propose a plan; with ``out`` it is written, never over a file.

    Args:
        paths: Files written by ``hospitium site data fingerprint``, one for each site.
        template_name: Gives every value that the fingerprints say nothing about.
        out: The plan to write.

    Returns:
        Each proposed value with its reason, and what this version cannot run of it yet.

    Raises:
        UsageError: There is no such template, a file is given twice, or ``out`` exists.
        DataError: A file is no fingerprint, or together they tell of no image.
    """
    base = template(template_name)
    if out is not None and out.exists():
        raise UsageError(f"{out}: the file exists. Nothing was written. Choose another name.")
    found = read_fingerprints(paths)
    proposal = propose(total(found))
    plan = _plan(base, proposal)
    if out is not None:
        text = to_toml(plan, comments=True).encode()
        durable.write_atomically(out, lambda file: str(file.write(text)))
    return {
        "num_sites": len(found),
        "num_subjects": sum(one.num_subjects for one in found),
        "values": [asdict(value) for value in proposal.values],
        "problems": problems_of(plan),
        "digest": plan.digest,
        "path": None if out is None else str(out),
    }


def read_fingerprints(paths: Sequence[Path]) -> list[Fingerprint]:
    """Read one fingerprint for each site.

    Raises:
        UsageError: A file is given twice.
        DataError: A file is no fingerprint.
    """
    found = [_read(path) for path in paths]
    copies = {to_bytes(one): path for one, path in zip(found, paths, strict=True)}
    if len(copies) < len(found):
        raise UsageError(
            f"{len(found)} fingerprints were given, and {len(found) - len(copies)} of them are "
            "copies of another. Nothing was written. Give one file for each site."
        )
    return found


def _read(path: Path) -> Fingerprint:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{path}: the fingerprint cannot be read ({error.strerror}). No plan was written. "
            "Check the path."
        ) from error
    return from_bytes(raw, where=str(path))


def _plan(base: Plan, proposal: Proposal) -> Plan:
    """Return the template's plan with the proposed values."""
    plan = replace(base, imaging=replace(proposal.imaging, normalise=_normalise(proposal)))
    if not proposal.classes:
        return plan
    return replace(
        plan,
        task=replace(plan.task, classes=proposal.classes),
        training=replace(
            plan.training, class_weighting="balanced", class_weights=proposal.class_weights
        ),
    )


def _normalise(proposal: Proposal) -> str:
    """Values that the pipeline has brought to mean 0 and sd 1 are not scaled again in training."""
    return "none" if proposal.imaging.pipeline.intensity in ("zscore", "pooled") else "image"
