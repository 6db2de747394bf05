"""``hospitium site data probe`` and ``fetch``: a cohort from the hospital's PACS."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hospitium.cli.output import Context, print_json, progress

if TYPE_CHECKING:
    from hospitium.operations.cohorts import Flow

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class LabelKey(StrEnum):
    """What a row of the table of labels is about."""

    ACCESSION = "accession"
    STUDY = "study"
    PATIENT = "patient"


def probe(
    pacs: Annotated[Path, typer.Argument(metavar="SETTINGS", help="TOML file of the PACS.")],
    as_json: AsJson = False,
) -> None:
    """Ask a PACS what it can do, and whether it knows us. Nothing is fetched."""
    from hospitium.operations.cohorts import probe_pacs, read_pacs_settings

    found = probe_pacs(read_pacs_settings(pacs))
    if as_json:
        print_json(found.as_json())
        return
    typer.echo(f"{found.address} ({found.kind})")
    for question, answer in found.answers.items():
        typer.echo(f"  {question}: {answer}")


def fetch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set to be made.")],
    pacs: Annotated[Path, typer.Option(metavar="SETTINGS", help="TOML file of the PACS.")],
    query: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEYWORD=VALUE",
            help="Which studies: Modality, StudyDate, PatientID, AccessionNumber or "
            "StudyInstanceUID. Without it every key of the labels is asked for.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Labels by accession, study or patient.")
    ] = None,
    label_key: Annotated[
        LabelKey | None, typer.Option(help="What the key is, where its column's name is unusual.")
    ] = None,
    key_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the key.")] = "",
    label_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the label.")] = "",
    words: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Local words and the plan's names for them.")
    ] = None,
    rules: Annotated[Path | None, typer.Option(metavar="TOML", help="Rules of inclusion.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a cohort from a PACS and give it a name. Run it again to go on after a stop."""
    from hospitium.operations.cohorts import LabelFile, fetch_data_set

    settings: Context = context.obj
    table = None
    if labels is not None:
        table = LabelFile(
            path=labels,
            key=label_key.value if label_key else "",
            key_column=key_column,
            label_column=label_column,
            words=words,
        )
    with progress(quiet=as_json) as say:
        flow, folder = fetch_data_set(
            settings.home, name, pacs=pacs, query=query or (), labels=table, rules=rules, say=say
        )
    if as_json:
        print_json({"name": name, "path": str(folder), **flow.as_json()})
    else:
        _tell(flow)
        typer.echo(f"\nThe picture is {folder / 'flow.html'}. It stays here.")
        typer.echo(f"Next: `hospitium site data scan {name}`")


def _tell(flow: Flow) -> None:
    """Say how the cohort came about, step by step."""
    from hospitium.operations.cohorts import FLOW_REASONS

    if flow.steps:
        typer.echo(f"{flow.steps[0].count_in:>7} studies found")
    for step in flow.steps:
        typer.echo(f"{step.count_out:>7} {step.name}")
        for reason, count in step.reasons.items():
            typer.echo(f"          {count} left out: {FLOW_REASONS[reason]}")
    typer.echo(
        f"{flow.num_instances} images in {flow.num_series} series of {flow.num_subjects} subjects, "
        f"{flow.size_bytes / 2**20:.1f} MiB; {flow.num_fetched} were fetched now."
    )
    _tell_table("Rows of the labels", flow.label_rows)
    _tell_table("Words that nobody has mapped", flow.unmapped)


def _tell_table(title: str, counts: Mapping[str, int]) -> None:
    if counts:
        typer.echo(f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
