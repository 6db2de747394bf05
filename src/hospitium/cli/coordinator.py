"""``hospitium coordinator``: begin a federation, invite, admit, revoke and list its sites."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hospitium.cli.coordinator_up import offer, replica, up
from hospitium.cli.groups import Group
from hospitium.cli.output import Context, print_json

app = typer.Typer(cls=Group, help="The coordinating centre's installation.", no_args_is_help=True)

Federation = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which federation, where there are several.")
]
SiteId = Annotated[str, typer.Argument(metavar="SITE", help="Name of the site.")]
OfficerKeys = Annotated[
    list[Path] | None,
    typer.Option("--officer-key", metavar="FILE", help="Key file of an officer who is here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    context: typer.Context,
    federation: Annotated[str, typer.Argument(metavar="NAME", help="Name of the federation.")],
    address: Annotated[
        list[str], typer.Option(metavar="URL", help="HTTPS address for the sites; may repeat.")
    ],
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The server's certificate, if you have one.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificate of the CA that signed it.")
    ] = None,
    public_ca: Annotated[
        bool, typer.Option("--public-ca", help="Everybody trusts the CA that signed it.")
    ] = False,
    min_sites: Annotated[int, typer.Option(min=1, help="Fewest sites of any round.")] = 2,
    officer_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the officer's key is to be kept.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a federation: make its keys and sign the first member list.

    Without a certificate of your own, an authority and a certificate for the addresses are made
    here; the authority's certificate goes to each site in its invite.
    """
    from hospitium.operations.coordinating import begin_federation

    if (tls_certificate is None) != (tls_key is None):
        raise typer.BadParameter("--tls-certificate and --tls-key belong together")
    found = begin_federation(
        _home(context),
        federation,
        addresses=address,
        tls_ca=tls_ca,
        is_public_ca=public_ca,
        server=(tls_certificate, tls_key) if tls_certificate and tls_key else None,
        min_sites=min_sites,
        officer_key=officer_key,
        now=_now(),
    )
    if as_json:
        print_json(found)
        return
    typer.echo(f"The federation {federation} begins; its member list has no site yet.")
    typer.echo(
        f"The officer's key is {found['officer_key']}. Whoever has it admits sites: keep it off "
        "this machine, and keep a copy in a safe."
    )
    typer.echo("Next: `hospitium coordinator up`, and `hospitium coordinator invite SITE`")


@app.command()
def invite(
    context: typer.Context,
    site: SiteId,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: SITE.invite")
    ] = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Write an invite for one site, good for 48 hours and for one use."""
    from hospitium.operations.coordinating import invite_site

    found = invite_site(
        _home(context),
        _named(context, federation),
        site,
        out=out or Path(f"{site}.invite"),
        now=_now(),
    )
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['path']} was written; it is good until {found['expires']}, once.")
    if found["is_member"]:
        typer.echo(f"{site} is a member: if it uses the invite, its present keys are retired.")
    typer.echo(
        "It is a secret: bring it to the site's administrator, and to nobody else. When the site "
        f"has asked, call them and run `hospitium coordinator admit {site}`."
    )


@app.command()
def admit(
    context: typer.Context,
    site: SiteId,
    request: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The request, if it came as a file.")
    ] = None,
    words: Annotated[
        str | None, typer.Option(help="The six words as you heard them; else they are asked for.")
    ] = None,
    officer_keys: OfficerKeys = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Put a site on the member list after its six words were heard on the telephone."""
    from hospitium.operations.coordinating import admit_site, receive_request
    from hospitium.operations.enrolment import read_file

    home, name = _home(context), _named(context, federation)
    if request is not None:
        receive_request(home, name, read_file(request), now=_now())
    heard = words or typer.prompt(f"The six words that {site} reads out on the telephone", err=True)
    found = admit_site(home, name, site, heard=heard, officer_keys=officer_keys or (), now=_now())
    _tell_list({"site_id": site, **found}, f"{site} is a member", as_json=as_json)


@app.command()
def sites(context: typer.Context, federation: Federation = None, as_json: AsJson = False) -> None:
    """List the members, those invited, and those who have asked to join."""
    from hospitium.operations.coordinating import list_sites

    found = list_sites(_home(context), _named(context, federation))
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['federation']}: member list {found['members_epoch']}, valid until "
        f"{found['valid_until']}; at least {found['min_sites']} sites in a round."
    )
    for row in found["sites"]:
        until = f", invite until {row['until']}" if row["until"] else ""
        beat = row["beat"]
        heard = f", last heard of {beat['heard']}: {beat['state']}" if beat else ""
        typer.echo(f"  {row['site_id']:<20} {row['state']}{until}{heard}  {row['legal_entity']}")
    if not found["sites"]:
        typer.echo("No site yet. Next: `hospitium coordinator invite SITE`")


@app.command()
def revoke(
    context: typer.Context,
    site: SiteId,
    officer_keys: OfficerKeys = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Cut a site off at once and take it off the member list, or take its invite back."""
    from hospitium.operations.coordinating import revoke_site

    found = revoke_site(
        _home(context),
        _named(context, federation),
        site,
        officer_keys=officer_keys or (),
        now=_now(),
    )
    _tell_list(found, f"{site} is cut off and no member", as_json=as_json)


@app.command()
def rotate(
    context: typer.Context,
    statement: Annotated[
        Path, typer.Argument(metavar="FILE", help="The site's `hospitium site rotate` wrote it.")
    ],
    officer_keys: OfficerKeys = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Put the successor of a site's key on the member list."""
    from hospitium.operations.coordinating import rotate_key
    from hospitium.operations.enrolment import read_file

    found = rotate_key(
        _home(context),
        _named(context, federation),
        read_file(statement),
        officer_keys=officer_keys or (),
        now=_now(),
    )
    _tell_list(found, "The new key is on the member list", as_json=as_json)


@app.command()
def sign(
    context: typer.Context,
    proposed: Annotated[Path, typer.Argument(metavar="FILE", help="A proposed member list.")],
    officer_keys: OfficerKeys = None,
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Add an officer's signature to a proposed member list."""
    from hospitium.operations.coordinating import sign_proposed

    found = sign_proposed(
        _home(context),
        _named(context, federation),
        proposed=proposed,
        officer_keys=officer_keys or (),
    )
    _tell_list(found, "Enough officers have signed", as_json=as_json)


@app.command()
def members(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    federation: Federation = None,
    as_json: AsJson = False,
) -> None:
    """Write all signed member lists into a file, for sites without a connection."""
    from hospitium.operations.coordinating import write_lists

    found = write_lists(_home(context), _named(context, federation), out=out)
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"{out} was written, up to member list {found['members_epoch']}. At each site: "
            f"`hospitium site members {out}`"
        )


def _tell_list(found: Mapping[str, Any], done: str, *, as_json: bool) -> None:
    """Say whether a new member list is in force, or who has to sign it yet."""
    if as_json:
        print_json(found)
    elif found["is_in_force"]:
        typer.echo(f"{done}. Member list {found['members_epoch']} is in force.")
    else:
        typer.echo(
            f"The new list needs {found['threshold']} officers. Member list "
            f"{found['members_epoch']} stays in force until then. Each officer runs `hospitium "
            f"coordinator sign {found['proposed']} --officer-key FILE`."
        )


app.command()(offer)
app.command()(up)
app.command()(replica)


def _named(context: typer.Context, federation: str | None) -> str:
    from hospitium.operations.desks import only_federation

    return federation or only_federation(_home(context))


def _home(context: typer.Context) -> Any:
    settings = context.obj
    assert isinstance(settings, Context)
    return settings.home


def _now() -> datetime:
    return datetime.now(UTC)
