"""``hospitium run contribution`` and ``hospitium site contribution``: who contributed what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import Context, print_json
from hospitium.cli.site_words import Federation, home_of

_Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
_Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write it to this file too.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def contribution(
    context: typer.Context,
    run: _Run,
    signed: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A file that a site signed; may be given again."),
    ] = None,
    out: _Out = None,
    as_json: _AsJson = False,
) -> None:
    """Say who took part in which round with how many cases, as the coordinator signs it.

    Each site signs its own lines with `hospitium site contribution RUN --out FILE`. With these
    files the record says whether the two sides agree.
    """
    from hospitium.operations import contribution as record

    settings: Context = context.obj
    found = record.of_run(settings.home, run, signed=signed or (), now=datetime.now(UTC))
    if out is not None:
        record.write(found, out)
    print_json(found) if as_json else _tell(found, out)


def site_contribution(
    context: typer.Context,
    run: _Run,
    out: _Out = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check the coordinator's record instead."),
    ] = None,
    federation: Federation = None,
    as_json: _AsJson = False,
) -> None:
    """Sign what this site contributed to a run, from its own record of what left.

    The file is for the coordinating centre; that it leaves is in the record first. The record that
    the coordinator made of all sites' files is checked here with --check.
    """
    from hospitium.operations import contribution as record

    if check is not None:
        checked = record.check(home_of(context), federation, check)
        if as_json:
            print_json(checked)
            return
        typer.echo(f"Every signature in {check} holds; this site's lines: {checked['own']}.")
        return
    found = record.of_site(home_of(context), federation, run, now=datetime.now(UTC))
    if out is not None:
        record.write(found, out)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['site_id']}, {_rounds(found['lines'])}, signed by this site.")
    if out is None:
        typer.echo("Write it to a file for the coordinating centre with --out FILE.")


def _tell(found: Mapping[str, Any], out: Path | None) -> None:
    agreement, licence = found["agreement"] or "none named", found["licence"] or "none named"
    typer.echo(f"{found['run_id']}: {found['plan']}, agreement: {agreement}, licence: {licence}")
    for row in found["sites"]:
        typer.echo(f"  {row['site_id']}: {_rounds(row['lines'])}; {_standing(row)}")
    if found["statement"]:
        typer.echo("The coordinator signed this" + (f": {out}" if out else "; see --out FILE"))
    else:
        typer.echo("All sites were on this machine: nobody signed.")


def _standing(row: Mapping[str, Any]) -> str:
    if row["standing"] == "differs":
        rounds = ", ".join(map(str, row["differs"][:10]))
        return f"the site's own record DIFFERS in round {rounds}: ask it what happened"
    extra = f", {len(row['not_counted'])} more were sent and did not count"
    return str(row["standing"]) + (extra if row["not_counted"] else "")


def _rounds(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return in how many rounds, and with how many cases."""
    counts = sorted({line["num_cases"] for line in lines})
    cases = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    number = f"{len(lines)} round" + ("" if len(lines) == 1 else "s")
    return f"{number} of {cases} cases" if lines else "no round"
