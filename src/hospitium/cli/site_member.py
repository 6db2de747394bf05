"""``hospitium site members | rotate | pause | resume | leave``: a site's place in a federation."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hospitium.cli.output import print_json
from hospitium.cli.site_words import AsJson, Federation, Person, home_of, now, tell


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


def resume(context: typer.Context, federation: Federation = None, as_json: AsJson = False) -> None:
    """Answer tasks again."""
    from hospitium.operations.withdrawing import set_paused

    found = set_paused(home_of(context), federation, is_paused=False)
    tell(found, f"{found['federation']}: tasks are answered again.", as_json=as_json)


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
