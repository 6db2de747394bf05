"""``hospitium egress``: everything that left this site."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.groups import Group
from hospitium.cli.output import print_json
from hospitium.cli.site_words import AsJson, Federation, home_of, now

app = typer.Typer(
    cls=Group, help="Everything that left this site: list, show.", no_args_is_help=True
)


@app.command("list")
def list_(context: typer.Context, federation: Federation = None, as_json: AsJson = False) -> None:
    """List everything that left this site: when, what, how large, where to, and its receipt."""
    from hospitium.operations.leaving import list_departures

    rows = list_departures(home_of(context), federation, now=now())
    if as_json:
        print_json({"departures": rows})
        return
    for row in rows:
        where = row["federation"] or "this site"
        size = f"{row['bytes']:>12} bytes"
        if row["kind"] == "heartbeat":  # one entry allows those of a day
            size = f"{row['bytes']:>12} a day at most"
        standing = "no receipt needed" if row["standing"] == "none" else row["standing"]
        typer.echo(
            f"{where} {row['n']:>5}  {row['time_utc']}  {row['kind']:<11}  {size:<18}"
            f"  {row['sha256'][:12] or '-':<12}  {standing}{_of(row)}"
        )
    late = sum(row["standing"] == "unacknowledged" for row in rows)
    num_left = sum(row["kind"] != "resumed" for row in rows)
    typer.echo(f"{num_left} departures; {late} without a receipt after 24 hours.")


def _of(row: Mapping[str, Any]) -> str:
    """Return which round of which run it belongs to, and where it went."""
    run = f"; {row['run_id']}" if row["run_id"] else ""
    number = f" round {row['round_number']}" if row["round_number"] is not None else ""
    where = "stays here" if row["kind"] == "resumed" else f"to {row['destination']}"
    return f"{run}{number}; {where}"


@app.command()
def show(
    context: typer.Context,
    n: Annotated[int, typer.Argument(metavar="N", min=0, help="Its number in `egress list`.")],
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write exactly the bytes that left.")
    ] = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Show one thing that left, and write the copy that is kept of it."""
    from hospitium.operations.leaving import show_departure

    found = show_departure(home_of(context), federation, n, now=now(), save=save)
    if as_json:
        print_json(found)
        return
    for name, value in found["entry"].items():
        typer.echo(f"{name}: {value}")
    kept = f"a copy of {found['payload_bytes']} bytes" if found["is_kept"] else "no copy"
    file = ", and the file that went with it" if found["file_is_kept"] else ""
    typer.echo(f"receipt: {found['standing']}. Kept at this site: {kept}{file}.")
    for path in found["saved"]:
        typer.echo(f"{path} was written.")
