"""The first params of a run: drawn from the plan's seed, or read from a file and checked by digest.

Drawing needs the library that the model is built with. A coordinating centre may be without it:
there the plan names a file of first params that was written elsewhere, and their digest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hospitium.errors import CorruptedError, PlanError, UsageError
from hospitium.plan import Plan, load_plan
from hospitium.state import durable
from hospitium.training import can_build, trainer_for
from hospitium.training.plugins import Plugin
from hospitium.types import Params
from hospitium.wire import blob


def first_params(plan: Plan, plugin: Plugin, *, init_file: str = "") -> Params:
    """Return the first params of a run.

    Args:
        plan: Names the model, and the file.
        plugin: May hold the model.
        init_file: Where that file was when the run began; empty takes the plan's own path.

    Raises:
        PlanError: The file or the digest does not fit the plan's model; or the model cannot be
            built here, and the plan names no file.
    """
    require_first_params(plan)
    drawn = _drawn(plan, plugin) if can_build(plan) else None
    params = drawn if drawn is not None and not plan.model.init_file else _read(plan, init_file)
    if drawn is not None and blob.manifest_of(params) != blob.manifest_of(drawn):
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


def require_first_params(plan: Plan) -> None:
    """Refuse a plan whose first params nobody can come by on this machine.

    Raises:
        PlanError: It says how a file of them is made elsewhere.
    """
    model = plan.model
    if can_build(plan) or (model.init_file and model.init_sha256):
        return
    raise PlanError(
        [
            f"model.init_file and model.init_sha256: the first params of {model.name} are drawn "
            "with torch, which is not installed here, and the plan names no file of them. On a "
            "machine with torch (a site's will do) run `hospitium plan first-params PLAN --out "
            "FILE`, bring FILE here and put the two lines that it prints into the plan; or "
            "install torch here: `pip install hospitium[site]`"
        ],
        where=f"plan {plan.name!r}",
    )


def write_first_params(plan_path: Path, *, out: Path) -> dict[str, Any]:
    """Draw a plan's first params from its seed and write them for a machine without torch.

    Args:
        plan_path: The plan; a file of params that it names already is not looked at.
        out: The file to write, safetensors.

    Returns:
        The file, the digest for ``model.init_sha256``, and how many arrays and bytes it holds.

    Raises:
        PlanError: The plan cannot be read, or its model cannot be built on this machine.
        UsageError: The file exists. Nothing was written.
    """
    plan = load_plan(plan_path)
    plan = replace(plan, model=replace(plan.model, init_file="", init_sha256=""))
    require_first_params(plan)
    if out.exists():
        raise UsageError(f"{out}: the file exists. Nothing was written. Choose another name.")
    params = _drawn(plan, Plugin())
    digest = durable.write_atomically(out, lambda file: blob.write(file, params))
    return {
        "path": str(out),
        "init_sha256": digest,
        "num_arrays": len(params),
        "bytes": out.stat().st_size,
    }


def _drawn(plan: Plan, plugin: Plugin) -> Params:
    return trainer_for(plan, plugin=plugin, device="cpu").first_params()


def _read(plan: Plan, init_file: str) -> Params:
    try:
        return dict(blob.read(Path(init_file or plan.model.init_file)))
    except (OSError, CorruptedError) as error:
        raise PlanError([f"model.init_file: {error}"]) from error
