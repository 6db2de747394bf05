"""``hospitium doctor``: one line for each check, and who must act."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import Context, print_json

_FAILED = 3
_WIDTH = 100


def doctor(
    context: typer.Context,
    coordinator: Annotated[
        bool,
        typer.Option(
            "--coordinator", help="Look at the coordinating centre, where it is also a site."
        ),
    ] = False,
    federation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this federation.")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="Also wait for time-outs: takes about two minutes.")
    ] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Also load torch and look for a GPU.")] = False,
    pacs: Annotated[
        list[Path] | None,
        typer.Option(metavar="SETTINGS", help="Also ask this PACS; may be given several times."),
    ] = None,
    invite: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Try the way to an invite's coordinator; not used up."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at all that work depends on; name what fails and who must act. Changes nothing."""
    from hospitium.operations.doctor import (
        Wishes,
        examine_coordinator,
        examine_site,
        failures,
        is_centre,
    )

    settings = context.obj
    assert isinstance(settings, Context)
    wishes = Wishes(
        federation=federation, is_long=long, gpu=gpu, pacs=tuple(pacs or ()), invite=invite
    )
    asks_of_site = gpu or bool(pacs) or invite is not None
    of_centre = coordinator or (not asks_of_site and is_centre(settings.home))
    examine = examine_coordinator if of_centre else examine_site
    report = examine(settings.home, wishes, now=lambda: datetime.now(UTC))
    if as_json:
        print_json(report)
    else:
        for check in report["checks"]:
            typer.echo(_line(check))
        typer.echo(_summary(report["checks"]))
    if failures(report):
        raise typer.Exit(_FAILED)


def _line(check: Mapping[str, Any]) -> str:
    """Return one check; what to do stands below it, with who does it."""
    head = f"{check['status']}  {check['name']:<12} "
    lines = [textwrap.fill(check["found"], _WIDTH, initial_indent=head, subsequent_indent=" " * 6)]
    if check["remedy"]:
        who = f"      {check['who']}: "
        lines.append(
            textwrap.fill(check["remedy"], _WIDTH, initial_indent=who, subsequent_indent=" " * 6)
        )
    return "\n".join(lines)


def _summary(checks: list[Mapping[str, Any]]) -> str:
    counts = {status: sum(check["status"] == status for check in checks)
              for status in ("PASS", "WARN", "FAIL", "SKIP")}  # fmt: skip
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    first = next((check for check in checks if check["status"] == "FAIL"), None)
    if first is None:
        return f"\n{words}. Nothing stops work here."
    return f"\n{words}. Begin with `{first['name']}`; {first['who']} must act."
