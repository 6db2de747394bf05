"""What a person can do with a plan file: write one from a template, check it, show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hospitium.errors import UsageError
from hospitium.plan import load_plan
from hospitium.plan.checking import check_plan
from hospitium.plan.writing import template, to_toml
from hospitium.state import durable
from hospitium.training.plugins import load_plugin


def new_plan(path: Path, *, template_name: str) -> dict[str, Any]:
    """Write a commented plan; an existing file is never overwritten.

    Raises:
        UsageError: There is no such template, or the file exists.
    """
    plan = template(template_name)
    if path.exists():
        raise UsageError(f"{path}: the file exists. Nothing was written. Choose another name.")
    text = to_toml(plan, comments=True).encode()
    durable.write_atomically(path, lambda file: str(file.write(text)))
    return {"path": str(path), "template": template_name, "digest": plan.digest}


def check(
    path: Path, *, num_sites: int | None = None, plugin: Path | None = None
) -> dict[str, Any]:
    """Check a plan file; return its digest.

    Raises:
        PlanError: Everything that is wrong with it, at once.
    """
    plan = load_plan(path)
    extra = load_plugin(plugin).extra if plugin else None
    check_plan(plan, num_sites=num_sites, extra=extra)
    return {
        "ok": True,
        "path": str(path),
        "digest": plan.digest,
        "rounds": plan.rounds.count,
        "steps_per_site": plan.total_steps,
    }


def show(path: Path) -> dict[str, Any]:
    """Return every value of a plan, defaults included, its digest, and it as TOML."""
    plan = load_plan(path)
    return {"digest": plan.digest, "plan": plan.as_dict(), "toml": to_toml(plan)}
