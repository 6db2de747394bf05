"""Writes the pages that follow from the code: plan keys, commands, error codes, reasons.

Usage: make docs

A test fails when one of these pages is not what this script would write.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from hospitium import errors
from hospitium.cli.main import app
from hospitium.imaging.instance import NOTES, SKIP_REASONS
from hospitium.plan import Plan, schema
from hospitium.plan.writing import TEMPLATES

DOCS = Path(__file__).parent
_WRITTEN = "<!-- Written by docs/write_reference.py (`make docs`). Do not edit by hand. -->"


def main() -> None:
    """Write every generated page."""
    for name, write in PAGES.items():
        (DOCS / name).write_text(write(), encoding="utf-8", newline="\n")
        print(f"docs/{name} was written.")


def plan_page() -> str:
    """Return the reference of plan keys."""
    sections = list(_sections(Plan, ""))
    lines = [
        _WRITTEN,
        "# Plan keys",
        "",
        "A plan is one TOML file. Every key has a default, so a plan may be as short as one line.",
        "An unknown key is an error. `hospitium plan show FILE` prints every value of a plan.",
        "",
        "A *reserved* value is the name of something that a later version builds. It is read, and",
        "`hospitium plan check` refuses it by name.",
        "",
        "Templates for `hospitium plan new --template`: "
        + ", ".join(f"`{name}`" for name in TEMPLATES)
        + ".",
        "",
        "## At the top of the file",
        "",
        "`schema_version` says which version of this page the file follows: "
        f"{schema.SCHEMA_VERSION}.",
        "",
        *_table(Plan, ""),
    ]
    for name, kind in sections:
        lines += ["", f"## `[{name}]`", "", f"{_first_line(kind)}", "", *_table(kind, f"{name}.")]
    return "\n".join(lines) + "\n"


def _sections(kind: type[Any], path: str) -> Iterator[tuple[str, type[Any]]]:
    """Yield every section of a plan with its name, one within another after it."""
    for name, inner in _hints(kind).items():
        if is_dataclass(inner):
            yield f"{path}{name}", inner
            yield from _sections(inner, f"{path}{name}.")


def _table(kind: type[Any], path: str) -> list[str]:
    """Return the rows of one section; sections within it are left out."""
    hints = _hints(kind)
    rows = [
        f"| `{path}{item.name}` | `{_value(_default(item))}` | {_allowed(item, hints[item.name])} "
        f"| {_cell(item.metadata.get('note', ''))} |"
        for item in fields(kind)
        if not is_dataclass(hints[item.name])
    ]
    return ["| key | default | allowed | meaning |", "|---|---|---|---|", *rows]


def _allowed(item: Field[Any], kind: Any) -> str:
    """Return what a key may hold, in words."""
    bounds = item.metadata
    if "choices" in bounds:
        text = "list of " if "tuple" in str(kind) else ""
        text += ", ".join(f"`{_value(choice)}`" for choice in bounds["choices"])
        reserved = ", ".join(f"`{name}`" for name in bounds.get("reserved", ()))
        return f"{text}; reserved: {reserved}" if reserved else text
    words = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}
    text = words.get(kind) or ("table" if "Mapping" in str(kind) else _list_of(kind))
    limits = [
        f"{word} {bounds[name]:,}"
        for name, word in (("low", "from"), ("above", "above"), ("high", "to"))
        if name in bounds
    ]
    return ", ".join([text, *limits])


def _value(value: Any) -> str:
    """Return a value as TOML writes it: for those in a plan's defaults, as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def _list_of(kind: Any) -> str:
    return {int: "list of whole numbers", float: "list of numbers"}.get(
        get_args(kind)[0], "list of texts"
    )


def _default(item: Field[Any]) -> Any:
    return item.default_factory() if callable(item.default_factory) else item.default


def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind, vars(schema))


def commands_page() -> str:
    """Return the reference of commands."""
    root = typer.main.get_command(app)
    lines = [
        _WRITTEN,
        "# Commands",
        "",
        "Options before the noun hold for every command. Exit status: 0 done, 1 an error, 2 a",
        "command that was not understood or a run that is not there, 3 a plan with problems, 4 too",
        "few sites answered, 130 interrupted. An error has a code with [a page](errors.md).",
        "With `--json` a command prints one bare object (`run watch`: one for each round) on",
        'standard output. An error is then `{"ok": false, "code": ..., "error": ...}`.',
        "",
        "## `hospitium`",
        "",
        f"{root.help}",
        "",
        *_options(root),
    ]
    for name, command in _commands(root, "hospitium"):
        lines += ["", f"## `{name}`", "", f"{command.help}", "", *_options(command)]
    return "\n".join(lines) + "\n"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each command below a group, with all of its words."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _options(command: Any) -> list[str]:
    """Return a table of the arguments and options of one command."""
    rows = []
    for item in command.params:
        if item.name == "help":
            continue
        is_option = item.param_type_name == "option"
        names = [*item.opts, *item.secondary_opts] if is_option else [item.metavar or item.name]
        words = ", ".join(f"`{name if is_option else name.upper()}`" for name in names)
        default = "" if item.required else _default_text(item.default)
        need = "required" if item.required else (f"`{default}`" if default else "")
        rows.append(f"| {words} | {need} | {_cell(getattr(item, 'help', '') or '')} |")
    return ["| argument or option | default | meaning |", "|---|---|---|", *rows] if rows else []


def _default_text(value: Any) -> str:
    """Return a default as a person would type it; nothing where there is none."""
    if value is None or value is False:
        return ""
    return "true" if value is True else str(value)


def errors_page() -> str:
    """Return the index of error codes."""
    lines = [
        _WRITTEN,
        "# Error codes",
        "",
        "Every error has a code that does not change. Its page says what it means, what state",
        "things are in, what to do, and who acts.",
        "",
        "| code | name | exit status | meaning |",
        "|---|---|---|---|",
    ]
    for error in errors.ALL_ERRORS:
        lines.append(
            f"| [{error.code}](../errors/{error.code}.md) | `{error.__name__}` "
            f"| {error.exit_status} | {_cell(_first_line(error))} |"
        )
    return "\n".join(lines) + "\n"


def reading_page() -> str:
    """Return the codes that reading images counts."""
    lines = [
        _WRITTEN,
        "# What reading images counts",
        "",
        "A file or a row that cannot be used is left out and counted. It never ends a run, as",
        "long as enough is left. The reasons are told with their counts. Which file it was stays",
        "at the site.",
        "",
        "## Left out",
        "",
        "| reason | meaning |",
        "|---|---|",
        *(f"| `{code}` | {_cell(text)} |" for code, text in SKIP_REASONS.items()),
        "",
        "## Tolerated or changed",
        "",
        "Hospitium is strict in what it writes and tolerant in what it reads from a scanner. What",
        "it tolerated is counted too.",
        "",
        "| note | meaning |",
        "|---|---|",
        *(f"| `{code}` | {_cell(text)} |" for code, text in NOTES.items()),
    ]
    return "\n".join(lines) + "\n"


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "reference/plan.md": plan_page,
    "reference/commands.md": commands_page,
    "reference/errors.md": errors_page,
    "reference/reading.md": reading_page,
}

if __name__ == "__main__":
    main()
