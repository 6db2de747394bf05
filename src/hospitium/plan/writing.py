"""A plan as TOML again: in full, or as a commented template to start from."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

from hospitium.errors import UsageError
from hospitium.plan.schema import (
    SCHEMA_VERSION,
    AlgorithmSection,
    EvaluationSection,
    ImagingSection,
    PipelineSection,
    Plan,
    RoundsSection,
    TaskSection,
    TrainingSection,
)

TEMPLATES: dict[str, Plan] = {
    "xray-classification": Plan(),
    "xray-fedprox": Plan(algorithm=AlgorithmSection(name="fedprox", mu=0.01)),
    "xray-as-pooled": Plan(
        algorithm=AlgorithmSection(
            name="fedadam",
            coordinator_lr=0.004,
            coordinator_schedule="cosine",
            coordinator_warmup=0.05,
            coordinator_decay=0.05,
            clip_factor=4.0,
        ),
        training=TrainingSection(
            steps=1,
            optimizer="sgd",
            lr=1.0,
            momentum=0.0,
            weight_decay=0.0,
            schedule="constant",
            warmup=0.0,
            moments="reset",
        ),
        rounds=RoundsSection(count=2000),
        evaluation=EvaluationSection(every=20),
    ),
    "fundus-classification": Plan(
        name="retinopathy",
        task=TaskSection(classes=("none", "mild", "moderate", "severe", "proliferative")),
        imaging=ImagingSection(pipeline=PipelineSection(channels=3)),
    ),
}


def template(name: str) -> Plan:
    """Return the plan of a template.

    Raises:
        UsageError: There is no template of this name; those there are, are listed.
    """
    if name not in TEMPLATES:
        raise UsageError(
            f"There is no template {name!r}. Nothing was written. Choose one of: "
            f"{', '.join(TEMPLATES)}."
        )
    return replace(TEMPLATES[name])


def to_toml(plan: Plan, *, comments: bool = False) -> str:
    """Return TOML that reads back to the same plan; with comments, what each key means.

    Example:
        >>> from hospitium.plan import parse_plan
        >>> parse_plan(to_toml(Plan())) == Plan()
        True
    """
    lines = [f"schema_version = {SCHEMA_VERSION}"]
    return "\n".join([*lines, *section_lines(plan, "", comments=comments)]) + "\n"


def section_lines(section: Any, path: str, *, comments: bool) -> list[str]:
    """Return the keys of a section as TOML, then the sections within it."""
    keys, sections = [], []
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            doc = [f"# {type(value).__doc__}"] if comments else []
            inner = f"{path}{field.name}"
            sections += [
                "",
                *doc,
                f"[{inner}]",
                *section_lines(value, f"{inner}.", comments=comments),
            ]
        else:
            keys.append(_line(section, field, comments=comments))
    return keys + sections


def _line(section: Any, field: Any, *, comments: bool) -> str:
    """Return one ``key = value`` line."""
    line = f"{field.name} = {_toml(getattr(section, field.name))}"
    note = field.metadata.get("note", "")
    return f"{line:<32}  # {note}" if comments and note else line


def _toml(value: Any) -> str:
    """Return one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" in text else f"{text}.0"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_text(name)} = {_toml(item)}" for name, item in value.items())
        return "{ " + inner + " }" if inner else "{}"
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    """Return a basic string: as JSON writes it, but TOML has no surrogate pairs and no bare DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
