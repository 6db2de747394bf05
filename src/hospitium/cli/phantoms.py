"""``hospitium phantoms``: invented studies to try the product with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hospitium.cli.groups import Group
from hospitium.cli.output import print_json, progress

app = typer.Typer(cls=Group, help="Invented studies to try things with.", no_args_is_help=True)


@app.callback()
def of_nobody() -> None:
    """Invented studies to try things with."""


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    kind: Annotated[
        str, typer.Option(help="chest (radiographs), mr (heads) or ct (trunks); all with lesions.")
    ] = "chest",
    sites: Annotated[
        int | None, typer.Option(help="Number of hospitals. Default: 4, one a vendor.", min=1)
    ] = None,
    vendors: Annotated[
        str | None,
        typer.Option(help="Or: the vendor of each, of Alder, Birch, Cedar, Dogwood; with commas."),
    ] = None,
    cases: Annotated[
        int | None, typer.Option(help="Studies. Default: 200; 20 volumes.", min=1)
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Rows and columns, 64 to 2048. Default: 256; volumes 96.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.", min=0)] = 7,
    awkward: Annotated[
        float,
        typer.Option(help="Add this share of studies that must be left out (radiographs); 0.025."),
    ] = 0.0,
    masks: Annotated[
        bool, typer.Option("--masks", help="A mask for each radiograph; volumes always have one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write whole studies of invented people, as DICOM or NIfTI, with a table of labels."""
    from hospitium.operations import phantoms

    names = tuple(name.strip() for name in vendors.split(",") if name.strip()) if vendors else ()
    options = phantoms.PhantomOptions(
        kind=kind, sites=sites, vendors=names, cases=cases, size=size, awkward=awkward,
        masks=masks, seed=seed,
    )  # fmt: skip
    with progress(quiet=as_json) as say:
        written = phantoms.write(folder, options, say=say)
    if as_json:
        print_json(written)
        return
    awkward_words = f", {written['awkward']} of them to be left out" if written["awkward"] else ""
    typer.echo(
        f"{folder}: {written['cases']} studies of {len(written['sites'])} hospitals"
        f"{awkward_words}. Nobody was ever in a scanner."
    )
    typer.echo(f"Labels: {written['labels']}")
