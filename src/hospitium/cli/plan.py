"""``hospitium plan``: write a plan from a template, check it, show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hospitium.cli.groups import Group
from hospitium.cli.output import print_json

app = typer.Typer(cls=Group, help="What a federation agrees to run.", no_args_is_help=True)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("plan.toml"),
    template: Annotated[
        str,
        typer.Option(
            help="xray-classification, xray-fedprox, xray-as-pooled or fundus-classification."
        ),
    ] = "xray-classification",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a plan with every key, its default and what it means."""
    from hospitium.operations.plans import new_plan

    written = new_plan(path, template_name=template)
    if as_json:
        print_json(written)
    else:
        typer.echo(
            f"{path} was written, a whole plan. Change what your study needs, then run "
            f"`hospitium plan check {path}`."
        )


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A plan file.")],
    sites: Annotated[int | None, typer.Option(help="How many sites will take part.")] = None,
    plugin: Annotated[Path | None, typer.Option(help="Plug-in file the plan uses.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find everything wrong with a plan at once; exit status 3 if anything is."""
    from hospitium.operations.plans import check as check_plan

    found = check_plan(path, num_sites=sites, plugin=plugin)
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"{path}: no problem found. {found['rounds']} rounds, {found['steps_per_site']:,} "
            f"steps at each site. Digest {found['digest']}."
        )


@app.command()
def auto(
    fingerprints: Annotated[
        list[Path], typer.Argument(metavar="FINGERPRINT...", help="One file from each site.")
    ],
    template: Annotated[
        str, typer.Option(help="Gives what the fingerprints say nothing about.")
    ] = "xray-classification",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The plan to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Propose a plan from the sites' fingerprints, with the reason for each value."""
    from hospitium.operations.plan_auto import auto_plan

    found = auto_plan(fingerprints, template_name=template, out=out)
    if as_json:
        print_json(found)
        return
    sites = "1 site" if found["num_sites"] == 1 else f"{found['num_sites']} sites"
    typer.echo(f"{found['num_subjects']} subjects at {sites}.\n")
    for value in found["values"]:
        typer.echo(f"{value['key']} = {value['value']}\n    {value['reason']}")
        if value["otherwise"]:
            typer.echo(f"    otherwise: {value['otherwise']}")
    for problem in found["problems"]:
        typer.echo(f"\nThis version cannot run it yet: {problem}")
    done = f"{found['path']} was written" if found["path"] else "Nothing was written (no --out)"
    typer.echo(f"\n{done}. Read every line; edit it, then run `hospitium plan check`.")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A plan file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every value of a plan, defaults included, and its digest."""
    from hospitium.operations.plans import show as show_plan

    found = show_plan(path)
    if as_json:
        print_json({"digest": found["digest"], "plan": found["plan"]})
    else:
        typer.echo(f"# digest {found['digest']}\n{found['toml']}", nl=False)


@app.command("first-params")
def first_params(
    path: Annotated[Path, typer.Argument(help="A plan file.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The safetensors file to write.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the params that a run begins with, for a coordinating centre without torch."""
    from hospitium.operations.first_params import write_first_params

    written = write_first_params(path, out=out)
    if as_json:
        print_json(written)
        return
    typer.echo(
        f"{out} was written: {written['num_arrays']} arrays, {written['bytes']:,} bytes. Bring it "
        "to the coordinating centre, and put these two lines into [model] of the plan before it "
        "is offered; init_file is where the file is there:\n"
    )
    typer.echo(f'init_file = "{out.name}"\ninit_sha256 = "{written["init_sha256"]}"')
