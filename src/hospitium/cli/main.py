"""The command ``hospitium``: nouns, verbs, and how errors become words and an exit status."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from hospitium import __version__
from hospitium.cli import audit, coordinator, egress, phantoms, plan, run, site
from hospitium.cli.demo import demo
from hospitium.cli.doctor import doctor
from hospitium.cli.groups import Group
from hospitium.cli.output import Context, print_error, print_json
from hospitium.errors import HospitiumError, InterruptedRunError

app = typer.Typer(
    name="hospitium",
    cls=Group,
    help="Hospitals train one medical-imaging model together, without sharing a single scan.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo)
app.command("doctor")(doctor)
app.add_typer(audit.app, name="audit")
app.add_typer(coordinator.app, name="coordinator")
app.add_typer(egress.app, name="egress")
app.add_typer(phantoms.app, name="phantoms")
app.add_typer(plan.app, name="plan")
app.add_typer(run.app, name="run")
app.add_typer(site.app, name="site")


def _show_version(is_wanted: bool) -> None:
    """Say the version and end, whatever else stands on the line."""
    if is_wanted:
        typer.echo(f"hospitium {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            help="Folder for settings, runs and stores. Default: HOSPITIUM_HOME, else ~/.hospitium."
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks. They may name files.")
    ] = False,
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
) -> None:
    """Hospitals train one medical-imaging model together, without sharing a single scan."""
    context.obj = Context(home_folder=home, debug=debug)


@app.command()
def version(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the version of Hospitium and of what results depend on."""
    if as_json:
        from hospitium.operations.versions import versions

        print_json(versions())
    else:
        typer.echo(f"hospitium {__version__}")


def main() -> None:
    """Run the command line; every foreseen failure is a sentence, a code and an exit status."""
    signal.signal(signal.SIGTERM, _stop)
    debug, as_json = "--debug" in sys.argv, "--json" in sys.argv
    try:
        status = _command()(standalone_mode=False)
        if status == InterruptedRunError.exit_status:  # Typer makes this number of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status or 0)
    except HospitiumError as error:
        _fail(error.code, str(error), error.exit_status, as_json=as_json, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        stopped = InterruptedRunError(
            "Interrupted. What was finished before is kept. A run goes on, no round lost, with "
            "`hospitium run resume RUN`; `hospitium run list` names the runs."
        )
        _fail(stopped.code, str(stopped), stopped.exit_status, as_json=as_json, debug=False)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)  # type: ignore[attr-defined]
            sys.exit(2)
        if _is_usage(error):
            _fail("E002", f"{error.format_message()} See `hospitium --help`.", 2,  # type: ignore[attr-defined]
                  as_json=as_json, debug=debug)  # fmt: skip
        _fail(
            "E001",
            f"Something that should not happen did: {type(error).__name__}: {error}. What was "
            "committed before is intact. Run the command again with --debug (before the noun) and "
            "send the traceback to the developers; it may name files.",
            1,
            as_json=as_json,
            debug=debug,
        )


@cache
def _command() -> Callable[..., int | None]:
    """Build the commands and their options, once in a process: that takes a tenth of a second."""
    return typer.main.get_command(app)


def _is_usage(error: Exception) -> bool:
    """Whether this is the parser's complaint about the command line."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _fail(code: str, text: str, status: int, *, as_json: bool, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print_error(code, text, as_json=as_json)
    sys.exit(status)


def _stop(signum: int, frame: FrameType | None) -> None:
    """Treat a polite request to stop like Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
