"""``hospitium demo``: simulated hospitals on this machine, from data to a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hospitium.cli.output import Context, command_line, print_json, progress


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(help="NPZ (MedMNIST layout), or a folder with labels.csv. Default: phantoms."),
    ] = None,
    sites: Annotated[
        int | None, typer.Option(help="Number of hospitals. Default: 4.", min=1)
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of training.", min=1)] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="How cases are shared out: iid, dirichlet:A, size:RATIO, scanner, "
            "dirichlet:A+scanner, size:RATIO+scanner, column:NAME."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the CSV with the label.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column with the image's name.")] = None,
    subject_column: Annotated[str | None, typer.Option(help="Column with the subject.")] = None,
    split_column: Annotated[
        str | None, typer.Option(help="Column with train, val or test.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of a model. Default: small_cnn.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Rows and columns to train on.", min=8, max=1024)
    ] = None,
    plugin: Annotated[
        Path | None, typer.Option(help="Python file with an own model, loss or algorithm.")
    ] = None,
    seed: Annotated[int, typer.Option(help="All randomness flows from it.", min=0)] = 7,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report. Default: in the run's folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train one model across simulated hospitals; compare it with each alone and with pooling."""
    from hospitium.operations.demo import DemoOptions, prepare_demo
    from hospitium.operations.finishing import finish_run

    settings: Context = context.obj
    options = DemoOptions(
        data=data, sites=sites, rounds=rounds, partition=partition, label=label,
        image_column=image_column, subject_column=subject_column, split_column=split_column,
        model=model, image_size=image_size, plugin=plugin, seed=seed, out=out,
    )  # fmt: skip
    with progress(quiet=as_json) as say:
        command = command_line(sys.argv[1:])
        folder = prepare_demo(settings.home, options, say=say, command=command)
        say({"kind": "stage", "text": f"Run {folder.name}: stop it whenever you like, and go on "
             f"with `hospitium run resume {folder.name}`"})  # fmt: skip
        finished = finish_run(folder, say=say)
    if as_json:
        print_json(finished.report)
        return
    typer.echo(f"\n{finished.sentence}\n")
    typer.echo(f"Report: {finished.page}")
    typer.echo(f"Model:  {finished.model}")
