"""``hospitium site join | up | status``: a site's connection to its coordinators."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.output import print_json
from hospitium.cli.site_words import AsJson, Federation, home_of, isolated, now, tell

Proxy = Annotated[
    str | None,
    typer.Option(metavar="URL", help="http://host:port of the proxy. Default: HTTPS_PROXY."),
]
ProxyLogin = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="One line user:password, where the proxy wants a login."),
]
CaBundle = Annotated[
    Path | None,
    typer.Option(metavar="PEM", help="Certificates to trust too, as of a proxy that opens TLS."),
]


def join(
    context: typer.Context,
    invite: Annotated[
        Path, typer.Argument(metavar="INVITE", help="The file that the coordinating centre sent.")
    ],
    legal_entity: Annotated[
        str, typer.Option(metavar="NAME", help="The institution's legal name, without accents.")
    ],
    request_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the request, to be carried; nothing is sent."),
    ] = None,
    proxy: Proxy = None,
    proxy_login: ProxyLogin = None,
    ca_bundle: CaBundle = None,
    as_json: AsJson = False,
) -> None:
    """Make this site's keys and ask to join a federation. No private key leaves this machine.

    The same invite may be used again until the site is admitted: it asks the same.
    """
    from hospitium.operations.enrolment import join as ask
    from hospitium.operations.enrolment import join_online

    home = home_of(context)
    if request_out is not None:
        found = ask(home, invite, legal_entity=legal_entity, request_out=request_out, now=now())
    else:
        found = join_online(
            home,
            invite,
            legal_entity=legal_entity,
            now=now(),
            proxy=proxy,
            proxy_login=proxy_login,
            ca_bundle=ca_bundle,
        )
    if as_json:
        print_json(found)
    else:
        _tell_joined(found)


def up(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Exchange what is new, answer what is open, and end.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Answer what is open and send nothing; needs --save.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a dry run writes the bytes that would leave."),
    ] = None,
    proxy: Proxy = None,
    proxy_login: ProxyLogin = None,
    ca_bundle: CaBundle = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Be this site's agent: keep up with every coordinator, and answer what was agreed.

    It runs until it is stopped, and reconnects for as long as it takes. Training runs in a process
    of its own, without network and keys. The options about the way to the coordinator are kept.
    """
    from hospitium.operations.site_serving import serve_dry, serve_once, serve_site, set_line

    if dry_run != (save is not None):
        raise typer.BadParameter("--dry-run and --save DIR go together.")

    home = home_of(context)
    if proxy is not None or proxy_login or ca_bundle:
        set_line(home, federation, proxy=proxy, proxy_login=proxy_login, ca_bundle=ca_bundle)

    def say(text: str) -> None:
        if as_json:
            print_json({"says": text})
        else:
            typer.echo(text)

    if save is not None:
        found = serve_dry(home, save, say=say)
        words = f"{found['tasks']} tasks were taken up. Nothing was sent; in {save}: "
        words += ", ".join(Path(path).name for path in found["saved"]) or "nothing"
        tell(found, words, as_json=as_json)
        return
    if once:
        count = serve_once(home, say=say)
        tell({"tasks": count}, f"Up to date; {count} tasks were taken up.", as_json=as_json)
        return
    say("This site's agent runs. `hospitium site status` says how it is; Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):
        serve_site(home, stop=threading.Event(), say=say, is_shielded=True)
    say("The agent has ended; what was under way is kept. Go on with `hospitium site up`.")


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Say, for each federation, whether this site is ready to work and, if not, why."""
    from hospitium.operations.site_status import status as statuses

    found = statuses(home_of(context), now=now())
    if as_json:
        print_json({**found[0], "federations": found} if found else {"federations": []})
        return
    for row in found:
        _tell_status(row)
    if not found:
        typer.echo("This site takes part in nothing yet. Begin with `hospitium site join INVITE`.")


def add_to(app: typer.Typer) -> None:
    """Put these commands under ``hospitium site``."""
    for command in (join, up, status):
        app.command()(command)


def _tell_joined(found: Mapping[str, Any]) -> None:
    asks = f"{found['site_id']} asks to join {found['federation']}."
    if found["is_sent"]:
        typer.echo(f"The request was sent: {asks}")
    else:
        typer.echo(f"{found['request']} was written: {asks} Bring it to the coordinating centre.")
    typer.echo("Call the coordinating centre, and read out these six words:\n")
    typer.echo(f"    {' '.join(found['words'])}\n")
    typer.echo(
        f"Next: say in {found['policy']} who approves here (approvers) and on which agreement "
        "(reference, ethics, expires)."
    )
    if found["is_sent"]:
        typer.echo("Then `hospitium site up`; it waits for the admission.")


def _tell_status(row: Mapping[str, Any]) -> None:
    words = (
        ("", "registered", row["registered"]),
        ("a plan ", "approved", bool(row["approved"])),
        ("", "reachable", row["reachable"]),
        ("", "decoding", row["decoding"]),
    )
    states = ", ".join(f"{of}{word}" if is_so else f"NOT {word}" for of, word, is_so in words)
    stopped = "; left" if row["has_left"] else "; paused" if row["is_paused"] else ""
    health = "healthy: " if row["healthy"] else ""
    typer.echo(f"{row['federation']} as {row['site_id']}: {health}{states}{stopped}")
    if row["coordinator"]:
        typer.echo(f"  the coordinator thinks: {_thinks(row['coordinator'])}")
    if row["agent"] == "running":
        is_at_work = row["round_number"] is not None and row["state"] != "waiting"
        number = f", round {row['round_number']}" if is_at_work else ""
        typer.echo(f"  the agent: {row['state']}{number}; training is {isolated(row['isolation'])}")
    if row["next_opening"]:
        typer.echo(f"  outside its hours; tasks are answered again from {row['next_opening']}")
    if row["last_error"]:
        typer.echo(f"  {row['last_error']}")


def _thinks(standing: Mapping[str, Any]) -> str:
    """Return what a coordinator thinks of this site, in words."""
    plans = standing.get("plans", {})
    listed = ", ".join(f"{digest[:12]} {word}" for digest, word in plans.items())
    epoch, heard = standing.get("members_epoch"), standing.get("heard") or "never"
    return f"a member of list {epoch}, heard {heard}; plans: {listed or 'none offered'}"
