"""TOML to a frozen Plan, strictly: every unknown key and every value out of bounds, all at once."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Hashable, Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from hospitium.errors import PlanError, VersionError
from hospitium.plan.schema import SCHEMA_VERSION, Plan

_MOVED = (
    "Since schema version 2 images are described by [imaging]: move data.image_size = N to "
    "imaging.pipeline.size = [N, N], data.channels to imaging.pipeline.channels, data.intensity "
    "to imaging.pipeline.intensity, data.normalise to imaging.normalise"
)


def load_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        PlanError: It cannot be opened, is not TOML, or has problems; all of them are listed.
        VersionError: It was written for another version of the schema.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PlanError([f"the file cannot be read: {reason}"], where=str(path)) from error
    return parse_plan(text, where=str(path))


def parse_plan(text: str, *, where: str = "plan") -> Plan:
    """Read a plan from TOML text; see `load_plan`.

    Example:
        >>> parse_plan("[rounds]\\ncout = 3")
        Traceback (most recent call last):
        hospitium.errors.PlanError: plan: 1 problem found. Nothing was started.
          - line 2: unknown key rounds.cout; did you mean `count`?
        Mend the lines named here, then run `hospitium plan check` again.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also numbers without end
        raise PlanError([f"it is not TOML: {error}"], where=where) from error
    return plan_from_dict(table, where=where, lines=lines_of(text))


def plan_from_dict(
    table: Mapping[str, Any], *, where: str = "plan", lines: Mapping[str, int] | None = None
) -> Plan:
    """Build a plan from a plain table; see `load_plan`."""
    values = dict(table)
    version = values.pop("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version != SCHEMA_VERSION:
        moved = f" {_MOVED}, and write schema_version = 2." if version == 1 else ""
        raise VersionError(
            f"{where}: schema_version {version!r} found, this Hospitium reads {SCHEMA_VERSION}. "
            f"Nothing was started.{moved} Or use the version of Hospitium that wrote the plan: a "
            "run that was begun with it can only be finished with it."
        )
    problems: list[str] = []
    if "data" in values:
        problems.append(f"{_at('data', lines or {})}there is no section [data]. {_MOVED}")
        del values["data"]
    plan = read_section(Plan, values, path="", problems=problems, lines=lines or {})
    if problems:
        raise PlanError(problems, where=where)
    assert isinstance(plan, Plan)
    return plan


def read_section(
    cls: type[Any],
    table: Mapping[str, Any],
    *,
    path: str,
    problems: list[str],
    lines: Mapping[str, int],
) -> Any:
    """Build one dataclass from its table; problems are collected, never raised.

    Serves every file whose keys are declared by `hospitium.plan.schema.key`.
    """
    known: dict[str, Field[Any]] = {field.name: field for field in fields(cls)}
    hints = _kinds_of(cast(Hashable, cls))
    values: dict[str, Any] = {}
    for name, value in table.items():
        full = f"{path}{name}"
        if name not in known:
            problems.append(f"{_at(full, lines)}unknown key {full}{_nearest(name, known)}")
        elif is_dataclass(hints[name]):
            if isinstance(value, Mapping):
                values[name] = read_section(
                    hints[name], value, path=f"{full}.", problems=problems, lines=lines
                )
            else:
                problems.append(f"{_at(full, lines)}{full} is a section: write [{full}]")
        else:
            try:
                values[name] = _value(value, hints[name], known[name].metadata)
            except ValueError as error:
                problems.append(f"{_at(full, lines)}{full} = {value!r}: {error}")
    return cls(**values)


@cache
def _kinds_of(cls: Hashable) -> dict[str, Any]:
    """Return the type of each key of a section."""
    return get_type_hints(cls)


def _value(value: Any, kind: Any, bounds: Mapping[str, Any]) -> Any:
    """Return a value in the type of its key; raise ValueError with what was expected."""
    if kind is float and type(value) is int:
        value = _number(value)
    if str(kind).startswith("tuple"):
        return _list(value, get_args(kind)[0], bounds)
    if "Mapping" in str(kind):
        if not isinstance(value, Mapping):
            raise ValueError("expected a table")
        return {name: _json_value(item) for name, item in value.items()}
    if type(value) is not kind:
        raise ValueError(f"expected {_KIND_NAMES[kind]}")
    _check_bounds(value, bounds)
    return value


def _list(value: Any, kind: Any, bounds: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a list as a tuple of texts or of numbers, each within the bounds."""
    wanted = (int, float) if kind is float else (kind,)
    if not isinstance(value, list | tuple) or not all(type(item) in wanted for item in value):
        raise ValueError(f"expected a list of {_KIND_NAMES_OF_MANY[kind]}")
    items = tuple(_number(item) if kind is float else item for item in value)
    for item in items:
        _check_bounds(item, bounds)
    return items


def _number(value: int | float) -> float:
    """Return a number as a float; one without end is left to nobody's guess."""
    if not -1e300 < value < 1e300:
        raise ValueError("expected a finite number")
    return float(value)


def _json_value(value: Any) -> Any:
    """Return a value that has canonical bytes: no date, no NaN."""
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _json_value(item) for name, item in value.items()}
    if type(value) is float:
        return _number(value)
    if type(value) not in (int, str, bool):
        raise ValueError("expected numbers, texts, true or false, and lists of them")
    return value


def _check_bounds(value: Any, bounds: Mapping[str, Any]) -> None:
    """Raise ValueError where a value is outside of what its key allows."""
    if isinstance(value, float):
        _number(value)
    if "low" in bounds and value < bounds["low"]:
        raise ValueError(f"expected at least {bounds['low']}")
    if "above" in bounds and value <= bounds["above"]:
        raise ValueError(f"expected more than {bounds['above']}")
    if "high" in bounds and value > bounds["high"]:
        raise ValueError(f"expected at most {bounds['high']}")
    allowed = (*bounds.get("choices", ()), *bounds.get("reserved", ()))
    if allowed and value not in allowed and not bounds.get("is_open"):
        choices = " or ".join(repr(choice) for choice in bounds["choices"])
        raise ValueError(f"expected {choices}{_nearest(str(value), allowed)}")


_KIND_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_KIND_NAMES_OF_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def _nearest(name: str, known: Any) -> str:
    """Return a hint at the known name that looks most like this one."""
    close = difflib.get_close_matches(name, [str(item) for item in known], n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""


def _at(full: str, lines: Mapping[str, int]) -> str:
    return f"line {lines[full]}: " if full in lines else ""


def lines_of(text: str) -> dict[str, int]:
    """Return the line of each key and section, as well as plain TOML shows it."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            section = header[1] + "."
            lines[header[1]] = number
        elif item := re.match(r"\s*([\w.-]+)\s*=", line):
            lines[section + item[1]] = number
    return lines
