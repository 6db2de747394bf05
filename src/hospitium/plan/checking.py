"""What can be found wrong with a plan before anything starts: all of it at once.

Reading (``reading.py``) finds what is not a plan at all; this file finds what does not fit
together, and refuses by name what this version has not built yet.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hospitium.errors import PlanError
from hospitium.plan.schema import AlgorithmSection, Plan

MODEL_ARGS: dict[str, frozenset[str]] = {
    "logistic": frozenset(),
    "small_cnn": frozenset({"widths", "dropout", "convs_per_stage"}),
    "resnet18": frozenset({"stem"}),
    "resnet50": frozenset({"stem"}),
    "densenet121": frozenset(),
}
"""The models of the registry and the arguments that each takes; ``training/models`` builds them."""

MAX_CLASSES = 25
"""More would not fit into the metric sums of one envelope."""

LEAST_IMAGE_SIZE: dict[str, int] = {"densenet121": 32}
"""Models that halve an image more often than a smaller one allows."""

LOSSES = frozenset({"cross_entropy", "focal"})


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Names that a plug-in adds to what a plan may use."""

    models: Collection[str] = field(default_factory=frozenset)
    losses: Collection[str] = field(default_factory=frozenset)
    algorithms: Collection[str] = field(default_factory=frozenset)


def problems_of(
    plan: Plan, *, num_sites: int | None = None, extra: Extra | None = None
) -> list[str]:
    """Return everything that is wrong with a plan, one sentence each; empty means usable."""
    extra = extra or Extra()
    return [
        *_not_built(plan, ""),
        *_names(plan, extra),
        *_model(plan, extra),
        *_task(plan),
        *_training(plan),
        *_rounds(plan, num_sites),
    ]


def check_plan(plan: Plan, *, num_sites: int | None = None, extra: Extra | None = None) -> None:
    """Raise `PlanError` with everything that is wrong with a plan, if anything is."""
    problems = problems_of(plan, num_sites=num_sites, extra=extra)
    if problems:
        raise PlanError(problems, where=f"plan {plan.name!r}")


def _not_built(section: Any, path: str) -> list[str]:
    """Refuse every value that is reserved for a later version, by its name."""
    problems = []
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            problems += _not_built(value, f"{path}{item.name}.")
        elif value in item.metadata.get("reserved", ()):
            built = " or ".join(repr(choice) for choice in item.metadata["choices"])
            problems.append(
                f"{path}{item.name} = {value!r} is not built yet in this version; use {built}"
            )
    return problems


def _names(plan: Plan, extra: Extra) -> list[str]:
    """Names that appear on screens, in files and in the ledger are short and plain."""
    problems = []
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", plan.name):
        problems.append(
            f"name = {plan.name!r}: expected 1 to 64 letters, digits, dots, dashes or underscores"
        )
    if plan.training.loss not in LOSSES | set(extra.losses):
        problems.append(_unknown("training.loss", plan.training.loss, LOSSES | set(extra.losses)))
    algorithms = {"fedavg", "fedprox", *extra.algorithms}
    reserved = AlgorithmSection.__dataclass_fields__["name"].metadata["reserved"]
    if plan.algorithm.name not in algorithms | set(reserved):
        problems.append(_unknown("algorithm.name", plan.algorithm.name, algorithms))
    if plan.plugin_sha256 and plan.engine.name != "in_process":
        problems.append("plugin_sha256: a plug-in runs in_process only, never between machines")
    return problems


def _model(plan: Plan, extra: Extra) -> list[str]:
    """The model is in the registry, and so are its arguments; its first params have one source."""
    model, problems = plan.model, []
    if model.name in MODEL_ARGS:
        for unknown in sorted(set(model.args) - MODEL_ARGS[model.name]):
            problems.append(
                _unknown(f"model.args of {model.name}", unknown, MODEL_ARGS[model.name])
            )
    elif model.name not in extra.models:
        problems.append(_unknown("model.name", model.name, set(MODEL_ARGS) | set(extra.models)))
    least = LEAST_IMAGE_SIZE.get(model.name, 0)
    if plan.data.image_size < least:
        problems.append(
            f"model.name = {model.name!r} needs data.image_size of at least {least}, found "
            f"{plan.data.image_size}"
        )
    if model.init_sha256 and not re.fullmatch(r"[0-9a-f]{64}", model.init_sha256):
        problems.append("model.init_sha256: expected 64 hexadecimal characters")
    if model.init_file and not model.init_sha256:
        problems.append("model.init_file needs model.init_sha256: params are fetched by digest")
    return problems


def _task(plan: Plan) -> list[str]:
    classes = plan.task.classes
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(classes):
        return [f"task.classes = {list(classes)}: expected at least two different names"]
    if len(classes) > MAX_CLASSES:
        return [f"task.classes: {len(classes)} classes, this version carries up to {MAX_CLASSES}"]
    return []


def _training(plan: Plan) -> list[str]:
    problems = []
    algorithm = plan.algorithm
    if algorithm.mu > 0 and algorithm.name == "fedavg":
        problems.append("algorithm.mu is FedProx's: write name = 'fedprox', or leave mu out")
    if algorithm.name == "fedprox" and algorithm.mu == 0:
        problems.append("algorithm.mu = 0 makes fedprox equal to fedavg: give mu, e.g. 0.01")
    weights = plan.training.class_weights
    if weights and (len(weights) != len(plan.task.classes) or min(weights) < 0 or not any(weights)):
        problems.append(
            f"training.class_weights = {list(weights)}: expected one number for each of the "
            f"{len(plan.task.classes)} classes, none negative and not all zero"
        )
    if plan.privacy.record_dp == "off" and plan.privacy.epsilon > 0:
        problems.append(
            "privacy.epsilon is given while record_dp = 'off': nothing would enforce it; "
            "leave it out until record_dp is built"
        )
    return problems


def _rounds(plan: Plan, num_sites: int | None) -> list[str]:
    if num_sites is not None and plan.rounds.quorum > num_sites:
        return [f"rounds.quorum = {plan.rounds.quorum} but there are only {num_sites} sites"]
    return []


def _unknown(where: str, name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"{where}: unknown name {name!r}{hint} Known: {', '.join(sorted(known)) or 'none'}"
