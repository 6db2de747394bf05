"""``hospitium audit``: the record of this side, at a site or at the coordinating centre."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.groups import Group
from hospitium.cli.output import print_json
from hospitium.cli.site_words import AsJson, Federation, home_of, tell

app = typer.Typer(
    cls=Group, help="The record of this side: show, verify, export.", no_args_is_help=True
)

_BROKEN = 1
Run = Annotated[
    str | None, typer.Option(metavar="RUN", help="The coordinator's log of this run instead.")
]


class Format(StrEnum):
    """Forms in which a record is exported."""

    JSONL = "jsonl"


@app.command()
def show(
    context: typer.Context,
    federation: Federation = None,
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Show every entry of a record, and the root of its log."""
    from hospitium.operations.auditing import show_record

    found = show_record(home_of(context), federation=federation, run_id=run)
    if as_json:
        print_json(found)
        return
    for entry in found["entries"]:
        facts = {
            name: value for name, value in entry.items() if name not in _LEFT_OUT and value != ""
        }
        words = ", ".join(f"{name} {_short(value)}" for name, value in facts.items())
        typer.echo(f"{entry['n']:>6}  {entry['time_utc']}  {entry['kind']:<12}  {words}")
    typer.echo(f"{found['name']}: {found['size']} entries, root {found['root']}")


@app.command()
def verify(
    context: typer.Context,
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[BUNDLE]...", help="Records that other sides exported."),
    ] = None,
    federation: Federation = None,
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Verify a record, and whether those of other sides agree with it; nothing is changed.

    Names the first entry that is not what was written. Exit status 1 if anything does not hold.
    """
    from hospitium.operations.auditing import verify_record

    home, others = home_of(context), bundles or []
    found = verify_record(home, federation=federation, run_id=run, others=others)
    if as_json:
        print_json(found)
    else:
        _tell_verified(found)
    if not found["holds"]:
        raise typer.Exit(_BROKEN)


@app.command()
def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    format_: Annotated[Format, typer.Option("--format", help="Its form.")] = Format.JSONL,
    federation: Federation = None,
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Write a record with all that is needed to verify it elsewhere, without Hospitium.

    `python hospitium_verify.py FILE` checks it. Names of staff who approved are in it; nothing
    about a patient is.
    """
    from hospitium.operations.auditing import export_record

    found = export_record(home_of(context), federation=federation, run_id=run, out=out)
    words = f"{out} was written: {found['entries']} entries, {found['bytes']} bytes."
    if not found["holds"]:
        words += " It does NOT hold: see `hospitium audit verify`."
    tell({**found, "format": format_.value}, words, as_json=as_json)


_LEFT_OUT = ("n", "kind", "time_utc", "before", "checkpoint", "cosignature")


def _tell_verified(found: Mapping[str, Any]) -> None:
    for row in found["findings"]:
        where = row["origin"] or found["name"]
        typer.echo(f"{row['name']}: {where}, entry {row['n']}: {row['words']}.")
    if not found["holds"]:
        typer.echo(
            "It does NOT hold. Nothing was changed. Keep the files as they are: they are evidence. "
            "Tell the other side, and compare exports."
        )
    elif not found["is_signed"]:
        typer.echo(f"{found['name']}: {found['size']} entries, in order. No key signs this log.")
    else:
        typer.echo(f"{found['name']}: all {found['size']} entries are unchanged and in order.")


def _short(value: Any) -> str:
    """Return a value in few letters: of a digest the first eight characters."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:8] if len(text) == 64 and " " not in text else text
