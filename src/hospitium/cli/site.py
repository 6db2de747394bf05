"""``hospitium site``: what a hospital does on its own machine; nothing here sends anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hospitium.cli import site_member
from hospitium.cli.output import Context, print_json, progress
from hospitium.cli.site_pacs import fetch, probe

if TYPE_CHECKING:
    from hospitium.operations.site_data import DataSet

app = typer.Typer(help="A hospital's own installation.", no_args_is_help=True)
data = typer.Typer(help="A hospital's own data, before anything is trained.", no_args_is_help=True)
app.add_typer(data, name="data")
data.command()(probe)
data.command()(fetch)
site_member.add_to(app)

_NOTHING_HERE = 3
_FAILED = 3
NameOrPath = Annotated[
    str, typer.Argument(metavar="NAME|DIR", help="A data set, or a folder or file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class GroupBy(StrEnum):
    """What tells which files belong together."""

    UID = "uid"
    FOLDER = "folder"


@app.callback()
def of_this_site() -> None:
    """A hospital's own installation."""


@data.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder with the files.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Labels by file name, accession number or UID. Default: labels.csv in the folder.",
        ),
    ] = None,
    group_by: Annotated[
        GroupBy, typer.Option(help="What makes a series where DICOM UIDs are missing.")
    ] = GroupBy.UID,
    as_json: AsJson = False,
) -> None:
    """Give a folder a name. Nothing is copied, moved or sent."""
    from hospitium.operations.site_data import add_data_set, list_data_sets

    home = _home(context)
    found = add_data_set(home, name, path, labels=labels, group_by=group_by.value)
    if as_json:
        print_json(next(row for row in list_data_sets(home) if row["name"] == found.name))
        return
    typer.echo(f"{found.name} stands for {found.path}. Nothing was read yet.")
    if not found.has_labels:
        typer.echo(
            "It has no labels: no --labels was given, and there is no labels.csv in the folder. "
            "To train, add it again under another name with --labels CSV."
        )
    typer.echo(f"Next: `hospitium site data scan {found.name}`")


@data.command()
def scan(
    context: typer.Context,
    source: NameOrPath,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode. Default: one for each core.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every file once, and say of each what it is or why it was skipped.

    Run it again to go on after an interruption, or to read what is new: files that have not
    changed are not opened again.
    """
    from hospitium.operations.site_data import (
        find_data,
        published_summary,
        scan_data,
        skip_table,
    )

    home = _home(context)
    data_set = find_data(home, source)
    with progress(quiet=as_json) as say:
        summary = scan_data(home, data_set, workers=workers, say=say)
    if as_json:
        _print_records(data_set)
        print_json(published_summary(summary))
    else:
        _tell(published_summary(summary), skip_table(summary))
        typer.echo(_next_step(source, name=data_set.name, num_files=summary.num_files))
    if summary.num_files == 0:
        raise typer.Exit(_NOTHING_HERE)


@data.command()
def show(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A data set; without it all are listed.")
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="CODE", help="Also list the files skipped for this reason.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show the data sets of this site, or what one of them holds."""
    from hospitium.operations.site_data import list_data_sets, show_data_set

    home = _home(context)
    if source is None:
        rows = list_data_sets(home)
        print_json(rows) if as_json else _list(rows)
        return
    shown = show_data_set(home, source, reason=reason)
    if as_json:
        print_json(shown)
        return
    typer.echo(f"{shown['name'] or source}: {shown['path']}")
    if shown["labels"]:
        typer.echo(f"Labels: {shown['labels']}")
    _tell(shown, shown["skips"])
    for row in shown.get("files", []):
        typer.echo(f"  {row['file']}  {row['detail']}".rstrip())


@data.command()
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
            _home(context), source, plan=plan, labels=labels, out=out, workers=workers,
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


@data.command()
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

    home = _home(context)
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
        f"{counts['PASS']} passed; {found['num_cases']} cases. Report: {found['page']}. It stays "
        "here; `--leaving` shows what may leave."
    )


def _home(context: typer.Context) -> Any:
    settings: Context = context.obj
    return settings.home


def _print_records(data_set: DataSet) -> None:
    for record in data_set.records():
        print_json(record.published())


def _next_step(source: str, *, name: str, num_files: int) -> str:
    if num_files == 0:
        return f"{source}: there is no file to read. Check the path."
    return (
        f"Next: `hospitium site data show {source} --reason CODE` names the files of a reason; "
        f"`hospitium site data check {source} --plan PLAN` says whether they will do."
        + ("" if not name else f'\nIn a sites file: data = "{name}"')
    )


def _list(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        typer.echo("No data sets yet. Add one with `hospitium site data add NAME PATH`.")
    for row in rows:
        state = (
            f"{row['num_read']} of {row['num_files']} files read"
            if row["is_scanned"]
            else "not scanned yet"
        )
        typer.echo(f"{row['name']:<24} {state:<28} {row['path']}")


def _tell(summary: Mapping[str, Any], skips: Sequence[Mapping[str, Any]]) -> None:
    """Say what a scan found, and what to do about what it skipped."""
    typer.echo(
        f"{summary['num_read']} of {summary['num_files']} files read: {summary['num_subjects']} "
        f"subjects, {summary['num_studies']} studies, {summary['num_series']} series."
    )
    for title, counts in (
        ("Modalities", summary["modalities"]),
        ("Manufacturers", summary["vendors"]),
        ("Notes", summary["notes"]),
        ("Read, but no case", summary["cautions"]),
    ):
        if counts:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            typer.echo(f"{title}: {listed}")
    if not skips:
        typer.echo("Nothing was skipped.")
        return
    typer.echo(f"\n{'skipped':<28} {'files':>7}  {'who acts':<18}  what to do")
    for row in skips:
        typer.echo(f"{row['reason']:<28} {row['count']:>7}  {row['who']:<18}  {row['remedy']}")
    typer.echo("")
