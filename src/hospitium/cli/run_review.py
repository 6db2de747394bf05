"""``hospitium run review``: updates that were held, and what a person decides about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from hospitium.cli.output import Context, print_json


def review(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    release: Annotated[
        str | None, typer.Option(metavar="SITE", help="This site's held update was no fault.")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(metavar="SITE", help="This site's held update must not count.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--round", metavar="N", help="In which round it was held.", min=1)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who you are, by name.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept in the ledger.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List updates that were flagged or held, with their figures; release or exclude one.

    A round that was closed without an update stays as it is: a release then only tells the rules
    that this was no fault of the site.
    """
    from hospitium.operations import held_updates

    settings: Context = context.obj
    site_id = release or exclude
    if release and exclude:
        raise typer.BadParameter("release or exclude, not both")
    if site_id is None:
        found = held_updates.review_of(settings.home, run)
        print_json(found) if as_json else _tell(found)
        return
    if number is None or not name or not reason:
        raise typer.BadParameter("a decision needs --round N, --as NAME and --reason TEXT")
    decision: Literal["released", "excluded"] = "released" if release else "excluded"
    done = held_updates.decide(
        settings.home,
        run,
        site_id=site_id,
        round_number=number,
        decision=decision,
        by=name,
        reason=reason,
    )
    print_json(done) if as_json else typer.echo(_decided(done))


def _tell(found: Mapping[str, Any]) -> None:
    if found["mode"] == "off" and not found["updates"]:
        typer.echo("The plan says review.mode = off: no update is looked at.")
        return
    for row in found["updates"]:
        decided = f", {row['decision']} by {row['by']}: {row['reason']}" if row["decision"] else ""
        waits = "; the round waits for a decision" if row["waits"] else ""
        typer.echo(f"round {row['round']}, {row['site_id']}: {row['verdict']}{decided}{waits}")
        for why in row["why"]:
            typer.echo(f"    odd: {why}")
        for measure, figure in row["figures"].items():
            middle = "" if figure["median"] is None else f", median {figure['median']:.3f}"
            far = "".join(f", {rule} {value:.1f}" for rule, value in figure["distances"].items())
            typer.echo(f"    {measure} {figure['value']:.3f}{middle}{far}")
    if not found["updates"]:
        typer.echo("No update was flagged or held.")
    if found["note"]:
        typer.echo(found["note"])
    if any(row["verdict"] == "held" and not row["decision"] for row in found["updates"]):
        typer.echo(
            "Ask these sites; then `hospitium run review RUN --release SITE | --exclude SITE "
            "--round N --as NAME --reason TEXT`."
        )


def _decided(done: Mapping[str, Any]) -> str:
    what = f"Round {done['round']}: the update of {done['site_id']} is {done['decision']}."
    if not done["is_open"]:
        return (
            f"{what} The round went on without it and stays as it is. "
            f"{done['site_id']} takes part in the next one."
        )
    counts = "counts" if done["counts"] else "does not count"
    return f"{what} It {counts} in this round. Next: `hospitium run resume {done['run_id']}`"
