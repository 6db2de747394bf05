"""What the commands of ``hospitium site`` have in common: their options, and how they answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hospitium.cli.output import Context, print_json

if TYPE_CHECKING:
    from hospitium.state.home import Home

Federation = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which federation, where there are several.")
]
PlanDigest = Annotated[
    str, typer.Argument(metavar="PLAN", help="Digest of the plan, or its first 8 characters.")
]
Person = Annotated[str, typer.Option("--as", metavar="NAME", help="Who you are, by name.")]
NameOrPath = Annotated[
    str, typer.Argument(metavar="NAME|DIR", help="A data set, or a folder or file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def home_of(context: typer.Context) -> Home:
    """Return the home folder that the options before the noun name."""
    settings = context.obj
    assert isinstance(settings, Context)
    return settings.home


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def tell(found: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    """Print a result: as it is where JSON was asked for, else in words."""
    if as_json:
        print_json(found)
    else:
        typer.echo(words)


def isolated(word: str) -> str:
    """Return how the training process stands to the network, in words."""
    return {
        "cut_off": "cut off from the network",
        "not_cut_off": "NOT cut off from the network",
    }.get(word, "not tested yet")
