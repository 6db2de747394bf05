"""``hospitium site join | inbox | approve | ...``: a site's part in a federation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import Context, print_json

Federation = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which federation, where there are several.")
]
PlanDigest = Annotated[
    str, typer.Argument(metavar="PLAN", help="Digest of the plan, or its first 8 characters.")
]
Person = Annotated[str, typer.Option("--as", metavar="NAME", help="Who you are, by name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Reason(StrEnum):
    """Why a person refuses; free text does not travel."""

    PURPOSE = "purpose"
    PRIVACY = "privacy"
    DATA = "data"
    POLICY = "policy"
    RESOURCES = "resources"
    OTHER = "other"


class KeyName(StrEnum):
    """Which of a site's keys."""

    SIGNING = "signing"
    REQUEST = "request"


def join(
    context: typer.Context,
    invite: Annotated[
        Path, typer.Argument(metavar="INVITE", help="The file that the coordinating centre sent.")
    ],
    legal_entity: Annotated[
        str, typer.Option(metavar="NAME", help="The institution's legal name, without accents.")
    ],
    request_out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to write the request, to be carried.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make this site's keys and ask to join a federation. No private key leaves this machine."""
    from hospitium.operations.enrolment import join as ask

    found = ask(
        _home(context), invite, legal_entity=legal_entity, request_out=request_out, now=_now()
    )
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['request']} was written: {found['site_id']} asks to join "
               f"{found['federation']}. Bring it to the coordinating centre.")  # fmt: skip
    typer.echo("Then call them and read out these six words:\n")
    typer.echo(f"    {' '.join(found['words'])}\n")
    typer.echo(f"Who approves here, and under which conditions, stands in {found['policy']}.")


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

    home = _home(context)
    name = joined(home, federation).settings.federation
    found = take_members(home, name, read_lists(lists), now=_now())
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

    home = _home(context)
    name = joined(home, federation).settings.federation
    found = rotate_key(home, name, purpose=key.value, out=out)
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"{out} was written; bring it to the coordinating centre. The new key is used from "
            "the first member list on that names it."
        )


def inbox(
    context: typer.Context,
    add: Annotated[
        Path | None, typer.Option(metavar="FILE", help="First take a plan that came as a file.")
    ] = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """List the plans that the coordinator offers, and what was said about them here."""
    from hospitium.operations import approving
    from hospitium.operations.enrolment import read_file

    home = _home(context)
    if add is not None:
        approving.take_plan(home, federation, read_file(add))
    found = approving.inbox(home, federation, now=_now())
    if as_json:
        print_json({"plans": found})
        return
    for row in found:
        by = f" (by {', '.join(row['approved_by'])})" if row["approved_by"] else ""
        typer.echo(f"{row['plan_digest'][:12]}  {row['name']:<24} {row['state']}{by}")
    typer.echo("Read one: `hospitium site review PLAN`" if found else "No plan has come yet.")


def review(
    context: typer.Context, plan: PlanDigest, federation: Federation = None, as_json: AsJson = False
) -> None:
    """Say in words what a plan will do here, what will leave, and what changed."""
    from hospitium.operations.approving import review as read_plan

    found = read_plan(_home(context), federation, plan, now=_now())
    if as_json:
        print_json(found)
    else:
        _tell_review(found)


def approve(
    context: typer.Context,
    plan: PlanDigest,
    name: Person,
    cases: Annotated[
        Path, typer.Option(metavar="DIR", help="The prepared cases that are trained on.")
    ],
    role: Annotated[str, typer.Option(help="What you are here.")] = "approver",
    yes: Annotated[
        bool, typer.Option("--yes", help="You have read the review; do not show it again.")
    ] = False,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Agree to exactly this plan, after reading what it does and what leaves."""
    from hospitium.operations.approving import approve as sign_approval
    from hospitium.operations.approving import review as read_plan

    home = _home(context)
    if not yes:
        _tell_review(read_plan(home, federation, plan, now=_now()), err=as_json)
        typer.confirm(f"\n{name}, do you agree to this for your site?", abort=True, err=True)
    found = sign_approval(home, federation, plan, approver=name, cases=cases, role=role, now=_now())
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['name']}: {found['state']} by {', '.join(found['approved_by'])} "
        f"({len(found['approved_by'])} of {found['needed']}), with {found['num_cases']} training "
        f"cases, until {found['expires']}."
    )


def refuse(
    context: typer.Context,
    plan: PlanDigest,
    name: Person,
    reason: Annotated[Reason, typer.Option(help="The coordinator hears this word only.")],
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a plan; earlier approvals of it count no longer."""
    from hospitium.operations.approving import refuse as sign_refusal

    found = sign_refusal(
        _home(context), federation, plan, approver=name, reason=reason.value, now=_now()
    )
    _tell(found, f"{found['name']} is refused.", as_json=as_json)


def withdraw(
    context: typer.Context,
    plan: PlanDigest,
    name: Person,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """End this site's part in a plan, at once and for good; works without a connection."""
    from hospitium.operations.approving import withdraw as sign_withdrawal

    found = sign_withdrawal(_home(context), federation, plan, approver=name, now=_now())
    _tell(found, f"{found['plan_digest'][:12]}: this site has withdrawn.", as_json=as_json)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Say, for each federation, whether this site is ready to work and, if not, why."""
    from hospitium.operations.approving import status as statuses
    from hospitium.wire.statement import time_text

    found = statuses(_home(context), now=_now())
    if as_json:
        print_json({**found[0], "federations": found} if found else {"federations": []})
        return
    for row in found:
        words = (
            ("registered", row["registered"]),
            ("a plan is approved", bool(row["approved"])),
            ("reachable", row["reachable"]),
            ("decoding", row["decoding"]),
        )
        states = ", ".join(word if is_so else f"NOT {word}" for word, is_so in words)
        stopped = "; left" if row["has_left"] else "; paused" if row["is_paused"] else ""
        typer.echo(f"{row['federation']} as {row['site_id']}: {states}{stopped}")
        if row["next_opening"] and row["next_opening"] > time_text(_now()):
            typer.echo(f"  outside its hours; tasks are answered again from {row['next_opening']}")
        if row["last_error"]:
            typer.echo(f"  {row['last_error']}")
    if not found:
        typer.echo("This site takes part in nothing yet. Begin with `hospitium site join INVITE`.")


def pause(context: typer.Context, federation: Federation = None, as_json: AsJson = False) -> None:
    """Answer no task from now on."""
    from hospitium.operations.approving import set_paused

    found = set_paused(_home(context), federation, is_paused=True)
    _tell(found, f"{found['federation']}: paused; no task is answered.", as_json=as_json)


def resume(context: typer.Context, federation: Federation = None, as_json: AsJson = False) -> None:
    """Answer tasks again."""
    from hospitium.operations.approving import set_paused

    found = set_paused(_home(context), federation, is_paused=False)
    _tell(found, f"{found['federation']}: tasks are answered again.", as_json=as_json)


def leave(
    context: typer.Context, name: Person, federation: Federation = None, as_json: AsJson = False
) -> None:
    """Withdraw from every plan and leave a federation."""
    from hospitium.operations.approving import leave as leave_federation

    found = leave_federation(_home(context), federation, approver=name, now=_now())
    words = (
        f"{found['federation']}: this site has left; {len(found['withdrawn'])} plans were "
        "withdrawn. Ask the coordinating centre to run `hospitium coordinator revoke`, so that its "
        "keys are worth nothing."
    )
    _tell(found, words, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Put these commands under ``hospitium site``."""
    for command in (join, members, rotate, inbox, review, approve, refuse, withdraw, status, pause,
                    resume, leave):  # fmt: skip
        app.command()(command)


def _tell_review(found: Mapping[str, Any], *, err: bool = False) -> None:
    """Print a review: to stderr where stdout is for JSON."""
    lines = [f"{found['name']}  (digest {found['plan_digest']}; {found['state']})", ""]
    lines += ["What it will do here", *(f"  - {line}" for line in found["does"]), ""]
    lines += ["What will leave", *(f"  - {line}" for line in found["leaves"]), ""]
    if found["compared_with"]:
        lines += [f"Compared with the plan that was approved last ({found['compared_with'][:12]})"]
        lines += [f"  {line}" for line in found["changes"]] or ["  no difference"]
    else:
        lines += ["No plan was approved here before: there is nothing to compare it with."]
    lines += ["", "This site's policy"]
    lines += [f"  REFUSES  {line}" for line in found["policy_problems"]] or ["  allows it"]
    for line in lines:
        typer.echo(line, err=err)


def _tell(found: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(words)


def _home(context: typer.Context) -> Any:
    settings = context.obj
    assert isinstance(settings, Context)
    return settings.home


def _now() -> datetime:
    return datetime.now(UTC)
