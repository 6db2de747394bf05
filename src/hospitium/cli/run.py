"""``hospitium run``: start, resume, watch, show and list runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import Context, command_line, print_json, progress

app = typer.Typer(help="Executions of a plan.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def start(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(help="The plan.")],
    sites: Annotated[Path, typer.Option(help="TOML file that says where each site's data are.")],
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    plugin: Annotated[Path | None, typer.Option(help="Plug-in file the plan uses.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a plan over sites on this machine, then compare and report."""
    from hospitium.operations.finishing import finish_run
    from hospitium.operations.runs import prepare_run

    settings: Context = context.obj
    with progress(quiet=as_json) as say:
        folder = prepare_run(
            settings.home,
            plan_path=plan,
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
    """Go on with an interrupted run where it stopped."""
    from hospitium.operations.finishing import finish_run

    settings: Context = context.obj
    with progress(quiet=as_json) as say:
        finished = finish_run(settings.home.run(run), say=say)
    _tell(finished, as_json=as_json)


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
    for row in watch_run(settings.home, run):
        if row:
            print_json(row) if as_json else typer.echo(_round_line(row))
        elif not follow:
            return
        else:
            time.sleep(1.0)


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
    if found["chosen"]:
        typer.echo(f"{found['chosen']['reason']} Digest {found['chosen']['digest']}.")
        typer.echo(f"Report: {Path(found['out']) / 'report.html'}")
    else:
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
        typer.echo("No runs yet. Start with `hospitium demo`.")
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
