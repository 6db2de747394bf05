"""``hospitium run``: start, resume, watch, show and list runs."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.contributions import contribution
from hospitium.cli.groups import Group
from hospitium.cli.output import Context, command_line, print_json, progress
from hospitium.cli.run_review import review

app = typer.Typer(cls=Group, help="Executions of a plan.", no_args_is_help=True)
app.command()(review)
app.command()(contribution)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def start(
    context: typer.Context,
    plan: Annotated[
        str, typer.Argument(help="The plan: its file, or of an offered one its digest.")
    ],
    sites: Annotated[
        Path | None, typer.Option(help="TOML file that says where each site's data are.")
    ] = None,
    federation: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Run it between machines, in this federation."),
    ] = None,
    canary: Annotated[
        bool, typer.Option(help="Between machines: one round from end to end first.")
    ] = True,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    plugin: Annotated[Path | None, typer.Option(help="Plug-in file the plan uses.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a plan over sites on this machine, then compare and report; or between machines.

    Between machines the run is begun here and worked on by `hospitium coordinator up`.
    """
    if (sites is None) == (federation is None):
        raise typer.BadParameter(
            "say where the sites are: --sites FILE on this machine, or --federation NAME"
        )
    settings: Context = context.obj
    if federation is not None:
        if plugin is not None:
            raise typer.BadParameter("a plug-in runs on one machine only: leave out --plugin")
        _start_networked(
            settings, federation, plan, name=name, canary=canary, out=out, as_json=as_json
        )
        return
    assert sites is not None
    from hospitium.operations.finishing import finish_run
    from hospitium.operations.preparing import prepare_run

    with progress(quiet=as_json) as say:
        folder = prepare_run(
            settings.home,
            plan_path=Path(plan),
            sites_path=sites,
            run_id=name,
            plugin_path=plugin,
            out=out,
            say=say,
            command=command_line(sys.argv[1:]),
        )
        finished = finish_run(folder, say=say)
    _tell(finished, as_json=as_json)


@app.command()
def resume(context: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """Go on with an interrupted or paused run where it stopped."""
    from hospitium.operations.runs import wish_for

    settings: Context = context.obj
    wished = wish_for(settings.home, run, "")
    if wished["federation"]:
        _tell_wish(wished, f"{run} goes on", as_json=as_json)
        return
    from hospitium.operations.finishing import finish_run

    with progress(quiet=as_json) as say:
        finished = finish_run(settings.home.run(run), say=say)
    _tell(finished, as_json=as_json)


@app.command()
def pause(context: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """Let a run wait after the round that is under way."""
    from hospitium.operations.runs import wish_for

    settings: Context = context.obj
    wished = wish_for(settings.home, run, "paused")
    _tell_wish(wished, f"{run} pauses after the round that is under way", as_json=as_json)


@app.command()
def stop(context: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """End a run for now; between machines at once, else after the round that is under way."""
    from hospitium.operations.runs import wish_for

    settings: Context = context.obj
    _tell_wish(wish_for(settings.home, run, "stopped"), f"{run} is stopped", as_json=as_json)


@app.command()
def watch(
    context: typer.Context,
    run: RunId,
    follow: Annotated[bool, typer.Option(help="Wait for further rounds.")] = True,
    as_json: AsJson = False,
) -> None:
    """Print each closed round of a run, one line each, until it is finished."""
    from hospitium.operations.runs import watch_run

    settings: Context = context.obj
    with suppress(KeyboardInterrupt):  # who stops watching stops nothing else
        for row in watch_run(settings.home, run):
            if row:
                print_json(row) if as_json else typer.echo(_round_line(row))
            elif not follow:
                return
            else:
                time.sleep(1.0)
        if not as_json:
            typer.echo(f"The run is over. What came out: `hospitium run show {run}`")


@app.command()
def show(context: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """Show what the ledger says of a run."""
    from hospitium.operations.runs import show_run

    settings: Context = context.obj
    found = show_run(settings.home, run)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['run_id']}: {found['status']}, round {found['round']} of {found['rounds']}")
    typer.echo(f"plan {found['plan_digest']}")
    for seat in found["seats"]:
        typer.echo(f"  {seat['site_id']}: {seat['num_cases']} training cases")
    for row in found["participation"]:
        if row["left_out"] or row["refused"]:
            typer.echo(_round_line({**row, "rounds": found["rounds"]}))
    for row in found["review"]:
        decided = row["decision"] or ("a person must decide" if row["waits"] else "not decided")
        typer.echo(f"round {row['round']}: {row['site_id']} {row['verdict']}, {decided}")
    for row in found["conflicts"]:
        typer.echo(
            f"round {row['round_number']}: {row['site_id']} gave {len(row['statements'])} "
            "different answers to one task; all are kept, and the site is to say what happened"
        )
    if before := found["log"]["closed_rounds_before"]:
        typer.echo(f"no log of rounds 1 to {before}: they were closed by an earlier version")
    _tell_networked(found)
    if found["chosen"]:
        typer.echo(f"{found['chosen']['reason']} Digest {found['chosen']['digest']}.")
        validation = found["chosen"]["validation"]
        if validation["auroc"] is not None:
            typer.echo(
                f"Validation, together: {validation['metric']} {validation['auroc']:.4f} on "
                f"{validation['n']} cases."
            )
        if found["out"]:  # a canary has none
            for what, name in (("Model", "model.safetensors"), ("Report", "report.html")):
                if (path := Path(found["out"]) / name).is_file():
                    typer.echo(f"{what}: {path}")
    elif found["status"] in ("stopped", "paused"):
        if any(row["waits"] for row in found["review"]):
            typer.echo(f"Decide about what is held by `hospitium run review {run}`.")
        typer.echo(f"Go on with it by `hospitium run resume {run}`.")


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the runs in the home folder."""
    from hospitium.operations.runs import list_runs

    settings: Context = context.obj
    rows = list_runs(settings.home)
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo(
            "No runs yet. Start with `hospitium demo`, or, in a federation, with "
            "`hospitium run start PLAN --federation NAME`."
        )
    for row in rows:
        if row["status"] == "unreadable":
            typer.echo(
                f"{row['run_id']:<32} unreadable: {row['code']}: {row['error'].splitlines()[0]}"
            )
            continue
        typer.echo(
            f"{row['run_id']:<32} {row['status']:<9} round {row['round']} of {row['rounds']}, "
            f"{row['sites']} sites"
        )


def _start_networked(
    settings: Context,
    federation: str,
    plan: str,
    *,
    name: str | None,
    canary: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    from hospitium.operations.networked import start_networked
    from hospitium.operations.runs import is_served

    found = start_networked(
        settings.home,
        federation,
        plan,
        run_id=name,
        has_canary=canary,
        out=out,
        command=command_line(sys.argv[1:]),
    )
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['run_id']} begins with {len(found['sites'])} sites:")
    for row in found["sites"]:
        typer.echo(f"  {row['site_id']}: {row['num_cases']} training cases")
    for row in found["not_approved"]:
        typer.echo(f"  without {row['site_id']}: {row['reason']}; it may still come in")
    if found["canary"]:
        typer.echo("One round is run from end to end first, then the run.")
    if not is_served(settings.home):
        typer.echo("Nobody serves the sites now. Next: `hospitium coordinator up`")
    typer.echo(f"Watch it with `hospitium run watch {found['run_id']}`.")


def _tell_wish(wished: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(wished)
        return
    typer.echo(f"{done}. Every closed round and every accepted update is kept.")
    if wished["federation"] and not wished["is_served"]:
        typer.echo("Nobody serves the sites now. Next: `hospitium coordinator up`")


def _tell_networked(found: dict[str, Any]) -> None:
    """Say what a run between machines waits for, and how its canary went."""
    if not found["federation"]:
        return
    canary = found["canary"]
    if canary and canary["finished"]:
        failed = "; ".join(f"{row['site_id']} ({row['reason']})" for row in canary["left_out"])
        typer.echo(
            f"Canary: {len(canary['answered'])} sites answered{failed and '; not: ' + failed}"
        )
    for row in found["waiting"].get("waiting_for", ()):
        typer.echo(f"waiting for {row['site_id']}: {row['reason']}")
    if found["waiting"].get("error"):
        typer.echo(f"{found['waiting']['error']} Tried again at {found['waiting']['next_try']}.")
    if found["status"] == "not served":
        typer.echo("Nobody serves the sites now. Next: `hospitium coordinator up`")


def _round_line(row: dict[str, Any]) -> str:
    """Say one round in a line: who answered, who was left out and why."""
    left = "".join(f"; {item['site_id']} left out ({item['reason']})" for item in row["left_out"])
    refused = "".join(f"; {item['site_id']} refused ({item['reason']})" for item in row["refused"])
    score = "" if row.get("score") is None else f", validation score before it {row['score']:.3f}"
    answered = f"{len(row['answered'])} of {len(row['asked'])} sites"
    return f"round {row['round']} of {row['rounds']}: {answered}{score}{left}{refused}"


def _tell(finished: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(finished.report)
        return
    typer.echo(f"\n{finished.sentence}\n")
    typer.echo(f"Report: {finished.page}")
    typer.echo(f"Model:  {finished.model}")
