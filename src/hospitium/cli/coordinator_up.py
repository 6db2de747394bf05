"""``hospitium coordinator offer``, ``up``, ``replica``: sign plans for the sites; serve them."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from hospitium.cli.output import Context, print_json, progress


def offer(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it for sites without a connection.")
    ] = None,
    cases: Annotated[
        int | None, typer.Option(min=1, help="Training cases of all sites together.")
    ] = None,
    fingerprints: Annotated[
        list[Path] | None,
        typer.Option(
            "--fingerprint", metavar="FILE", help="A site's data fingerprint; may repeat."
        ),
    ] = None,
    federation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which federation, where there are several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a plan, fill in what follows from the sites' numbers, sign it, and offer it to all."""
    from hospitium.operations.desks import only_federation
    from hospitium.operations.offering import offer_plan

    settings: Context = context.obj
    name = federation or only_federation(settings.home)
    found = offer_plan(
        settings.home, name, plan, out=out, num_cases=cases, fingerprints=fingerprints or ()
    )
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['name']} is offered to the sites of {name}, digest {found['plan_digest']}.")
    if found["resolved"]:
        typer.echo(f"With the values that were filled in it is {found['resolved']}.")
    if out:
        typer.echo(f"For a site without a connection: `hospitium site inbox --add {out}`")
    typer.echo("At each site: `hospitium site inbox`, then `hospitium site approve`. Then here:")
    typer.echo(f"  hospitium run start {found['plan_digest'][:12]} --federation {name}")


Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen at. Default: all.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Default: that of the first address.")
]
EventsAsJson = Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")]


def up(
    context: typer.Context, host: Host = "", port: Port = None, as_json: EventsAsJson = False
) -> None:
    """Serve the sites of all federations and work on their runs, until it is stopped."""
    from hospitium.operations.serving import serve

    settings: Context = context.obj
    with progress() as say:
        tell = print_json if as_json else say
        with suppress(KeyboardInterrupt):
            serve(settings.home, host=host, port=port, say=tell, stop=threading.Event())
    typer.echo(
        "The coordinator has ended; sites wait for it. Go on with `hospitium coordinator up`.",
        err=True,
    )


def replica(
    context: typer.Context, host: Host = "", port: Port = None, as_json: EventsAsJson = False
) -> None:
    """Serve the sites of federations with a NATS cluster, beside `up`; it works on no run.

    Any number may run, on machines that share the home folder. A federation's folder names its
    cluster in nats.toml.
    """
    from hospitium.operations.replicating import serve_replica

    settings: Context = context.obj
    with progress() as say:
        tell = print_json if as_json else say
        serve_replica(settings.home, host=host, port=port, say=tell, stop=threading.Event())
