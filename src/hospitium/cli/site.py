"""``hospitium site``: what a hospital does on its own machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hospitium.cli import site_agent, site_member, site_plans
from hospitium.cli.contributions import site_contribution
from hospitium.cli.groups import Group
from hospitium.cli.output import print_json, progress
from hospitium.cli.site_checks import check, fingerprint
from hospitium.cli.site_pacs import fetch, probe
from hospitium.cli.site_words import AsJson, NameOrPath, home_of

if TYPE_CHECKING:
    from hospitium.operations.site_data import DataSet

app = typer.Typer(cls=Group, help="A hospital's own installation.", no_args_is_help=True)
data = typer.Typer(
    cls=Group, help="A hospital's own data, before anything is trained.", no_args_is_help=True
)
app.add_typer(data, name="data")
data.command()(probe)
data.command()(fetch)
data.command()(check)
data.command()(fingerprint)
for _part in (site_agent, site_member, site_plans):
    _part.add_to(app)
app.command("contribution")(site_contribution)

_NOTHING_HERE = 3


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

    home = home_of(context)
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

    home = home_of(context)
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

    home = home_of(context)
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
