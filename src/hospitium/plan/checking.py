"""What can be found wrong with a plan before anything starts: all of it at once.

Reading (``reading.py``) finds what is not a plan at all; this file finds what does not fit
together, and refuses by name what this version has not built yet.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hospitium.errors import PlanError
from hospitium.plan.schema import AlgorithmSection, ImagingSection, PipelineSection, Plan

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

MAX_PIXELS = 1 << 27
"""Of one case: half a GiB of float32."""

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
        *imaging_problems(plan.imaging),
        *_model(plan, extra),
        *_task(plan),
        *_training(plan),
        *_rounds(plan, num_sites),
        *_agreement(plan),
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
        elif (path, value) == ("engine.", "hub"):
            problems.append(
                "engine.name = 'hub': any plan can run between machines; leave 'in_process', and "
                "begin the run with `hospitium run start PLAN --federation NAME`"
            )
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
    algorithms = {"fedavg", "fedprox", "fedadam", *extra.algorithms}
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
    if min(plan.imaging.pipeline.size, default=least) < least:
        problems.append(
            f"model.name = {model.name!r} needs imaging.pipeline.size of at least {least}, found "
            f"{list(plan.imaging.pipeline.size)}"
        )
    if plan.imaging.kind == "volume":
        problems.append(
            "imaging.kind = 'volume': volumes can be read, checked and harmonised, but no model of "
            "this version trains on them; use 'image'"
        )
    if model.init_sha256 and not re.fullmatch(r"[0-9a-f]{64}", model.init_sha256):
        problems.append("model.init_sha256: expected 64 hexadecimal characters")
    if model.init_file and not model.init_sha256:
        problems.append("model.init_file needs model.init_sha256: params are fetched by digest")
    return problems


def imaging_problems(imaging: ImagingSection) -> list[str]:
    """Return what does not fit together in the data contract, one sentence each."""
    problems = [*_selection(imaging), *_steps(imaging), *_intensity(imaging.pipeline)]
    method = imaging.pipeline.intensity
    if "CT" in imaging.modalities and method in ("percentile", "zscore"):
        problems.append(
            f"imaging.pipeline.intensity = {method!r} scales each CT by itself, and its HU lose "
            "their meaning: use 'window' or 'pooled'"
        )
    return problems


def _selection(imaging: ImagingSection) -> list[str]:
    problems = []
    for name in ("modalities", "body_parts", "views"):
        codes = getattr(imaging, name)
        wrong = [code for code in codes if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", code)]
        if wrong or len(set(codes)) != len(codes):
            problems.append(
                f"imaging.{name} = {list(codes)}: expected different DICOM codes, each of 1 to 16 "
                "capital letters, digits, spaces or underscores"
            )
    return problems


def _steps(imaging: ImagingSection) -> list[str]:
    """Each number of axes, and each step that another would undo."""
    steps, problems = imaging.pipeline, []
    is_volume = imaging.kind == "volume"
    axes = 3 if is_volume else 2
    if len(steps.size) != axes or math.prod(steps.size) > MAX_PIXELS:
        problems.append(
            f"imaging.pipeline.size = {list(steps.size)}: expected {axes} numbers for "
            f"imaging.kind = {imaging.kind!r}, of {MAX_PIXELS:,} pixels at most"
        )
    if steps.spacing_mm and len(steps.spacing_mm) != axes:
        problems.append(
            f"imaging.pipeline.spacing_mm = {list(steps.spacing_mm)}: expected {axes} numbers "
            f"for imaging.kind = {imaging.kind!r}, or none"
        )
    if steps.spacing_mm and steps.resize == "fit":
        problems.append(
            "imaging.pipeline.resize = 'fit' would undo imaging.pipeline.spacing_mm: use 'crop'"
        )
    if steps.spacing_mm and not is_volume and not _known_kinds(imaging):
        problems.append(
            "imaging.pipeline.spacing_mm of images needs imaging.spacing_kinds: name those that "
            "are comparable, e.g. ['detector'], without 'none'"
        )
    if is_volume and steps.channels != 1:
        problems.append("imaging.pipeline.channels = 3 is for images; a volume has 1")
    if is_volume and steps.crop_field:
        problems.append("imaging.pipeline.crop_field is for fundus photographs, not for volumes")
    if steps.n4 and not is_volume:
        problems.append("imaging.pipeline.n4 is for MR volumes: imaging.kind = 'volume'")
    return problems


def _known_kinds(imaging: ImagingSection) -> bool:
    return bool(imaging.spacing_kinds) and "none" not in imaging.spacing_kinds


def _intensity(steps: PipelineSection) -> list[str]:
    """The numbers that an intensity needs, and none that nothing would use."""
    problems = []
    if steps.low >= steps.high:
        problems.append(
            f"imaging.pipeline.low = {steps.low} and high = {steps.high}: expected low < high"
        )
    if steps.intensity in ("window", "pooled") or steps.window:
        if len(steps.window) != 2 or steps.window[0] >= steps.window[1]:
            problems.append(
                f"imaging.pipeline.window = {list(steps.window)}: expected two numbers, the lowest "
                "and the highest physical value, e.g. [-1000, 400]"
            )
        elif steps.intensity not in ("window", "pooled"):
            problems.append(
                f"imaging.pipeline.window is not used by intensity = {steps.intensity!r}: use "
                "'window' or 'pooled', or leave it out"
            )
    if steps.intensity != "pooled" and (steps.mean, steps.std) != (0.0, 1.0):
        problems.append("imaging.pipeline.mean and std are used by intensity = 'pooled' only")
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
    if algorithm.name in ("fedavg", "fedprox"):
        default = AlgorithmSection()
        problems += [
            f"algorithm.{name} is fedadam's: write name = 'fedadam', or leave {name} out"
            for name in _FEDADAM
            if getattr(algorithm, name) != getattr(default, name)
        ]
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
    problems = []
    if num_sites is not None and plan.rounds.quorum > num_sites:
        problems.append(
            f"rounds.quorum = {plan.rounds.quorum} but there are only {num_sites} sites"
        )
    if plan.review.hold_at <= plan.review.flag_at:
        problems.append(
            f"review.hold_at = {plan.review.hold_at} and flag_at = {plan.review.flag_at}: expected "
            "flag_at < hold_at"
        )
    return problems


def _agreement(plan: Plan) -> list[str]:
    """Return what could not be signed in the contribution record: it holds plain texts only."""
    texts = {"reference": plan.agreement.reference, "licence": plan.agreement.licence}
    return [
        f"agreement.{name}: expected at most 512 printable ASCII characters, without spaces at the "
        "ends"
        for name, text in texts.items()
        if text and not re.fullmatch(r"[!-~]([ -~]{0,510}[!-~])?", text)
    ]


_FEDADAM = (
    "coordinator_schedule",
    "coordinator_warmup",
    "coordinator_decay",
    "beta1",
    "beta2",
)


def _unknown(where: str, name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"{where}: unknown name {name!r}{hint} Known: {', '.join(sorted(known)) or 'none'}"
