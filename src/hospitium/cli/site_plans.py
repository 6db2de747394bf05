"""``hospitium site inbox | review | approve | refuse | withdraw``: what people do about plans."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import print_json, progress
from hospitium.cli.site_words import (
    AsJson,
    Federation,
    Person,
    PlanDigest,
    home_of,
    isolated,
    now,
    tell,
)
from hospitium.errors import UsageError


class Reason(StrEnum):
    """Why a person refuses; free text does not travel."""

    PURPOSE = "purpose"
    PRIVACY = "privacy"
    DATA = "data"
    POLICY = "policy"
    RESOURCES = "resources"
    OTHER = "other"


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

    home = home_of(context)
    if add is not None:
        approving.take_plan(home, federation, read_file(add))
    found = approving.inbox(home, federation, now=now())
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

    found = read_plan(home_of(context), federation, plan, now=now())
    if as_json:
        print_json(found)
    else:
        _tell_review(found)


def approve(
    context: typer.Context,
    plan: PlanDigest,
    name: Person,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="A data set or files to train on. Default: what was prepared for this plan.",
        ),
    ] = None,
    role: Annotated[str, typer.Option(help="What you are here.")] = "approver",
    yes: Annotated[
        bool, typer.Option("--yes", help="You have read the review; do not show it again.")
    ] = False,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Agree to exactly this plan, after reading what it does and what leaves.

    The data are read and prepared as the plan asks; nothing is sent but your signed approval.
    """
    from hospitium.operations.approving import approve_data
    from hospitium.operations.approving import review as read_plan

    home = home_of(context)
    if not yes:
        read = read_plan(home, federation, plan, now=now(), approver=name)
        _tell_review(read, err=as_json)
        if not read["policy_problems"]:  # else nobody is asked: it is refused below
            _require_yes(f"\n{name}, do you agree to this for your site?")
    with progress(quiet=as_json) as say:
        found = approve_data(
            home, federation, plan, approver=name, data=data, role=role, now=now(), say=say
        )
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['name']}: {found['state']} by {', '.join(found['approved_by'])} "
        f"({len(found['approved_by'])} of {found['needed']}), with {found['num_cases']} training "
        f"cases, until {found['expires']}. Training is {isolated(found['isolation'])}."
    )
    typer.echo("The agent brings this to the coordinating centre: `hospitium site up`, if not yet.")


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
        home_of(context), federation, plan, approver=name, reason=reason.value, now=now()
    )
    tell(found, f"{found['name']} is refused.", as_json=as_json)


def withdraw(
    context: typer.Context,
    plan: PlanDigest,
    name: Person,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """End this site's part in a plan, at once and for good; works without a connection."""
    from hospitium.operations.withdrawing import withdraw as sign_withdrawal

    found = sign_withdrawal(home_of(context), federation, plan, approver=name, now=now())
    tell(found, f"{found['plan_digest'][:12]}: this site has withdrawn.", as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Put these commands under ``hospitium site``."""
    for command in (inbox, review, approve, refuse, withdraw):
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


def _require_yes(question: str) -> None:
    """Go on only where a person at the keyboard says yes."""
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        raise UsageError(
            "Nothing was approved: nobody answered y. Answer it at a keyboard; or, after reading "
            "what `hospitium site review` shows, give --yes."
        ) from None
