"""``hospitium site data check | fingerprint``: whether data will do, and what would leave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import print_json, progress
from hospitium.cli.site_words import AsJson, NameOrPath, home_of

_FAILED = 3


def check(
    context: typer.Context,
    source: NameOrPath,
    plan: Annotated[Path, typer.Option(metavar="PLAN", help="Plan to check the data against.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Table of labels, where it lies elsewhere.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the report's page and JSON.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode. Default: one for each core.")
    ] = None,
    least: Annotated[
        int, typer.Option(help="Counts below this are hidden in what may leave; 10 or more.")
    ] = 10,
    leaving: Annotated[
        bool, typer.Option("--leaving", help="Print only what may leave the site, as JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the data will do for a plan: PASS, WARN or FAIL, the remedy, and who acts.

    Exit status 3 if any check fails. The report stays at the site.
    """
    from hospitium.operations.site_check import check_data

    with progress(quiet=as_json or leaving) as say:
        found = check_data(
            home_of(context), source, plan=plan, labels=labels, out=out, workers=workers,
            least=least, say=say,
        )  # fmt: skip
    if leaving:
        print_json(found["leaves"])
    elif as_json:
        print_json(found)
    else:
        _tell_checks(found)
    if found["status"] == "FAIL":
        raise typer.Exit(_FAILED)


def fingerprint(
    context: typer.Context,
    source: NameOrPath,
    plan: Annotated[
        Path | None, typer.Option(metavar="PLAN", help="Count its classes, time its step.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Table of labels, where it lies elsewhere.")
    ] = None,
    least: Annotated[
        int, typer.Option(help="No count from 1 to this less 1 leaves; 10 or more.")
    ] = 10,
    without: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="A field that shall not leave.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0, max=24, help="Of a day in which it may train.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hand it over as this file, after asking.")
    ] = None,
    approve: Annotated[
        str, typer.Option(metavar="SHA256", help="Hand over what the last dry run showed.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly the bytes that would leave.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show every field that would leave the site, in words and counts, then hand it over.

    Nothing leaves without --out, and not before a person has said yes or named the SHA-256.
    """
    from hospitium.operations.site_fingerprint import hand_over, prepare_fingerprint

    home = home_of(context)
    if approve:
        if out is None or dry_run:
            raise typer.BadParameter("--approve needs --out FILE, and no --dry-run.")
        _tell_handed_over(hand_over(home, source, sha256=approve, out=out), as_json=as_json)
        return
    with progress(quiet=as_json) as say:
        found = prepare_fingerprint(
            home, source, plan=plan, labels=labels, least=least, without=without or [],
            hours=hours, say=say,
        )  # fmt: skip
    if as_json:
        print_json(found.as_dict())
        return
    _tell_fingerprint(found.as_dict(), to_stderr=dry_run)
    if dry_run:
        typer.echo(found.payload, nl=False)
    elif out is not None and typer.confirm(f"Write these {len(found.payload)} bytes to {out}?"):
        _tell_handed_over(hand_over(home, source, sha256=found.sha256, out=out), as_json=False)
    else:
        typer.echo("Nothing left the site.")


def _tell_fingerprint(found: Mapping[str, Any], *, to_stderr: bool) -> None:
    """List each field that would leave, with a bar for each count."""
    for field in found["fields"]:
        typer.echo(f"{field['field']}: {field['words']}", err=to_stderr)
        largest = max(float(cell["count"]) for cell in field["cells"]) or 1.0
        for cell in field["cells"]:
            is_table = len(field["cells"]) > 1 or cell["cell"] != ""
            bar = "#" * round(24 * cell["count"] / largest) if is_table else ""
            typer.echo(
                f"    {cell['says']:<28} {cell['count']:>10,g}  {bar}".rstrip(), err=to_stderr
            )
    local = found["local"]
    skipped = sum(local["skipped"].values())
    typer.echo(
        f"\nNothing leaves of: {', '.join(found['silent']) or 'no field'}.\n"
        f"Stays here: {local['num_subjects']} subjects were read in {local['seconds']:.1f} s, "
        f"{skipped} files or series gave nothing.\n"
        f"{found['bytes']} bytes, SHA-256 {found['sha256']}",
        err=to_stderr,
    )


def _tell_handed_over(written: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(written)
        return
    typer.echo(
        f"{written['path']} was written: {written['bytes']} bytes, SHA-256 {written['sha256']}. "
        "Give it to whoever makes the plan, for `hospitium plan auto`."
    )


def _tell_checks(found: Mapping[str, Any]) -> None:
    for line in found["checks"]:
        typer.echo(f"{line['status']}  {line['name']}: {line['found']}")
        if line["remedy"]:
            typer.echo(f"      {line['remedy']} ({line['who']})")
    counts = found["counts"]
    typer.echo(
        f"\n{found['status']}: {counts['FAIL']} failed, {counts['WARN']} to look at, "
        f"{counts['PASS']} passed; {found['num_cases']} cases, {found['num_train']} of them for "
        f"training. Report: {found['page']}. It stays here; `--leaving` shows what may leave."
    )
