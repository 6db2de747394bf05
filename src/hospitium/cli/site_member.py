"""``hospitium site members | rotate | pause | resume | leave``: a site's place in a federation."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hospitium.cli.output import print_json
from hospitium.cli.site_words import AsJson, Federation, Person, home_of, now, tell
from hospitium.errors import UsageError


class KeyName(StrEnum):
    """Which of a site's keys."""

    SIGNING = "signing"
    REQUEST = "request"


def members(
    context: typer.Context,
    lists: Annotated[
        Path, typer.Argument(metavar="FILE", help="`hospitium coordinator members` wrote it.")
    ],
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Take new member lists from a file; each must follow the one before it."""
    from hospitium.operations.enrolment import joined, read_lists, take_members

    home = home_of(context)
    name = joined(home, federation).settings.federation
    found = take_members(home, name, read_lists(lists), now=now())
    if as_json:
        print_json(found)
        return
    is_member = "This site is a member" if found["registered"] else "This site is NOT a member"
    typer.echo(
        f"{name}: member list {found['members_epoch']} is in force, with "
        f"{', '.join(found['sites']) or 'no site yet'}. {is_member}."
    )


def rotate(
    context: typer.Context,
    key: Annotated[KeyName, typer.Argument(metavar="KEY", help="signing or request.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Make a successor of a key, and the statement that the coordinating centre needs for it."""
    from hospitium.operations.enrolment import joined
    from hospitium.operations.enrolment import rotate as rotate_key

    home = home_of(context)
    name = joined(home, federation).settings.federation
    found = rotate_key(home, name, purpose=key.value, out=out)
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"{out} was written; bring it to the coordinating centre. The new key is used from "
            "the first member list on that names it."
        )


def pause(context: typer.Context, federation: Federation = None, as_json: AsJson = False) -> None:
    """Answer no task from now on."""
    from hospitium.operations.withdrawing import set_paused

    found = set_paused(home_of(context), federation, is_paused=True)
    tell(found, f"{found['federation']}: paused; no task is answered.", as_json=as_json)


def resume(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run that this site is out of. Without it: a pause."),
    ] = None,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Who you are, by name. With RUN.")
    ] = "",
    reason: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Why you decide so; it is in every export of the record. With RUN."
        ),
    ] = "",
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Answer tasks again, after a pause; or those of a run that this site is out of.

    A site leaves a run when what the coordinator showed it does not hold. Only a person has it go
    on, by name and reason; both are in the site's record, and the evidence stays.
    """
    if run is not None:
        _resume_run(context, run, name=name, reason=reason, federation=federation, as_json=as_json)
        return
    if name or reason:
        raise UsageError(
            "--as and --reason: they belong to a run that this site is out of, and none was named. "
            "Nothing was changed. `hospitium site status` names such runs."
        )
    from hospitium.operations.withdrawing import set_paused

    found = set_paused(home_of(context), federation, is_paused=False)
    tell(found, f"{found['federation']}: tasks are answered again.", as_json=as_json)


def _resume_run(
    context: typer.Context,
    run: str,
    *,
    name: str,
    reason: str,
    federation: str | None,
    as_json: bool,
) -> None:
    from hospitium.operations.resuming import resume_run

    found = resume_run(home_of(context), federation, run, by=name, reason=reason, now=now())
    words = (
        f"{run}: tasks of this run are answered again, from what the coordinator shows next; but "
        "none of a round that this site answered already, unless it is exactly the same. "
        f"{name}'s decision is entry {found['n']} of this site's record. The evidence is kept in "
        f"{found['evidence']}; do not delete it."
    )
    tell(found, words, as_json=as_json)


def leave(
    context: typer.Context, name: Person, federation: Federation = None, as_json: AsJson = False
) -> None:
    """Withdraw from every plan and leave a federation."""
    from hospitium.operations.withdrawing import leave as leave_federation

    found = leave_federation(home_of(context), federation, approver=name, now=now())
    words = (
        f"{found['federation']}: this site has left; {len(found['withdrawn'])} plans were "
        "withdrawn. Ask the coordinating centre to run `hospitium coordinator revoke`, so that its "
        "keys are worth nothing."
    )
    tell(found, words, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Put these commands under ``hospitium site``."""
    for command in (members, rotate, pause, resume, leave):
        app.command()(command)
