"""What ``hospitium doctor`` finds at the coordinating centre, and whom each plan waits for."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from hospitium.errors import HospitiumError, KeyFileError, TrustError
from hospitium.operations import doctor_hops as hops
from hospitium.operations.desks import coordinator_key
from hospitium.operations.doctor_checks import (
    OPERATOR,
    Check,
    completed,
    failed,
    passed,
    skipped,
    warned,
)
from hospitium.operations.doctor_hops import HopError, Place
from hospitium.operations.doctor_machine import GB
from hospitium.operations.doctor_site import list_validity
from hospitium.state.desk import Desk
from hospitium.state.examining import read_run
from hospitium.state.home import Home, is_locked
from hospitium.wire.certificate_facts import (
    CertificateFacts,
    read_certificate,
    read_pem_certificate,
)

NAMES = ("keys", "officer", "member list", "port", "certificate", "room", "sites")
RENEW = timedelta(days=30)
USUAL_UPDATE_BYTES = 100_000_000
"""Of 25 million numbers in float32: what is reckoned with before a run says better."""
COPIES = 3
"""An update on its way in is at most so often on disk: its chunks, the whole, and the ledger's."""


def check_coordinator(home: Home, desk: Desk, *, now: datetime) -> list[Check]:
    """Return the checks of one federation at the coordinating centre."""
    return completed(_checks(home, desk, now=now), NAMES)


def _checks(home: Home, desk: Desk, *, now: datetime) -> Iterator[Check]:
    yield _keys(desk)
    yield _officer(desk)
    try:
        members = desk.members()
    except (HospitiumError, OSError, ValueError) as error:
        yield failed("member list", str(error), remedy="As it says.", who=OPERATOR)
        return
    yield list_validity(members, now=now)
    yield from _served(desk, now=now)
    yield _room(home, num_sites=len(members.sites))
    yield _sites(desk, [site.site_id for site in members.sites])


def _keys(desk: Desk) -> Check:
    try:
        key = coordinator_key(desk)
    except (KeyFileError, OSError) as error:
        return failed("keys", str(error), remedy="As it says.", who=OPERATOR)
    return passed("keys", f"the coordinator's key {key.public.key_id[:12]}, for this account alone")


def _officer(desk: Desk) -> Check:
    found = sorted(path.name for path in (desk.folder / "keys").glob("officer*.key"))
    if found:
        return warned(
            "officer",
            f"an officer's key lies beside the coordinator's ({', '.join(found)}): whoever gets "
            "into this machine can admit sites",
            remedy="Move it to a stick, with a copy in a safe; name it by --officer-key.",
            who=OPERATOR,
        )
    return passed("officer", "no officer's key lies beside the coordinator's")


def _served(desk: Desk, *, now: datetime) -> Iterator[Check]:
    """Yield whether the hub's port is served, and what its certificate says."""
    settings = json.loads((desk.folder / "settings.json").read_bytes())
    place = hops.place_of(settings["addresses"][0])
    try:
        with closing(_reach(place)) as line:
            der = hops.look_at_certificate(line, place)
    except HopError as error:
        yield _not_served(place, error)
        yield from _given_certificate(desk, settings["addresses"], now=now)
        return
    yield passed("port", f"{place} is served")
    try:
        yield _certificate(read_certificate(der), settings["addresses"], now=now)
    except TrustError as error:
        yield failed("certificate", str(error), remedy="Start the hub again.", who=OPERATOR)


def _given_certificate(desk: Desk, addresses: Sequence[str], *, now: datetime) -> Iterator[Check]:
    """Yield what stands in a certificate of one's own; that of the own authority is made anew."""
    try:
        given = json.loads((desk.folder.parent / "_server" / "given.json").read_bytes())
        facts = read_pem_certificate(Path(given["certificate"]).read_bytes())
    except FileNotFoundError:
        yield skipped("certificate", "the hub makes one when it starts")
        return
    except (OSError, TrustError) as error:
        yield failed("certificate", str(error), remedy="Give the files again.", who=OPERATOR)
        return
    yield _certificate(facts, addresses, now=now)


def _reach(place: Place) -> socket.socket:
    """Return a connection to the hub: on this machine, else by its own name."""
    try:
        return hops.connect(Place(host="127.0.0.1", port=place.port), timeout_s=2.0)
    except HopError:
        return hops.connect(place, timeout_s=5.0)


def _not_served(place: Place, error: HopError) -> Check:
    if error.kind in ("no_tls", "closed"):
        return failed(
            "port",
            f"something listens at port {place.port} that does not speak TLS ({error})",
            remedy="Another program has the port: stop it, or serve at another one.",
            who=OPERATOR,
        )
    try:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", place.port))
    except PermissionError:
        return failed(
            "port",
            f"port {place.port} is not served, and this account may not listen there",
            remedy="Give the service the right (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
            who=OPERATOR,
        )
    except OSError as refusal:
        return failed(
            "port",
            f"port {place.port} is not served and not free: {refusal.strerror}",
            remedy="Another program has the port: stop it, or serve at another one.",
            who=OPERATOR,
        )
    return warned(
        "port",
        f"port {place.port} is free: the hub is not running",
        remedy="Start it: `hospitium coordinator up`.",
        who=OPERATOR,
    )


def _certificate(facts: CertificateFacts, addresses: Sequence[str], *, now: datetime) -> Check:
    until = f"{facts.not_after:%Y-%m-%d}"
    hosts = [urlsplit(address).hostname or "" for address in addresses]
    lacking = [host for host in hosts if not _is_named(host, facts.names)]
    if now > facts.not_after or now < facts.not_before:
        return failed(
            "certificate",
            f"good from {facts.not_before:%Y-%m-%d} to {until}; today it is not",
            remedy="Renew it: start the hub again, or get a new one from your CA.",
            who=OPERATOR,
        )
    if lacking:
        return failed(
            "certificate",
            f"it is for {', '.join(facts.names)}, not for {', '.join(lacking)}",
            remedy="Get one for every name that the invites hold.",
            who=OPERATOR,
        )
    found = f"issued by {facts.issuer} for {', '.join(facts.names)}, good until {until}"
    if facts.not_after - now < RENEW:
        return warned("certificate", found, remedy="Renew it soon.", who=OPERATOR)
    return passed("certificate", found)


def _is_named(host: str, names: Sequence[str]) -> bool:
    """Whether a certificate's names hold a host; ``*.example.org`` holds one part more."""
    parent = "*." + host.partition(".")[2]
    return any(name.lower() in (host.lower(), parent.lower()) for name in names)


def _room(home: Home, *, num_sites: int) -> Check:
    """Say whether one round's updates of all sites have room beside each other."""
    sizes = [path.stat().st_size for path in home.folder.glob("runs/*/store/**/*")
             if path.is_file()]  # fmt: skip
    largest = max(sizes, default=USUAL_UPDATE_BYTES)
    needed = largest * COPIES * max(1, num_sites)
    place = next(path for path in (home.folder, *home.folder.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    found = (
        f"{free / GB:.1f} GB free; one round of {num_sites} sites with {largest / 1e6:.0f} MB each "
        f"takes up to {needed / GB:.1f} GB"
    )
    if free < needed:
        return failed("room", found, remedy="Free some space, or use a larger disk.", who=OPERATOR)
    if free < 2 * needed:
        return warned("room", found, remedy="Free some space soon.", who=OPERATOR)
    return passed("room", found)


def _sites(desk: Desk, site_ids: Sequence[str]) -> Check:
    """Say whom each offered plan waits for."""
    waiting = []
    for plan_digest in desk.plan_digests():
        standing = desk.standing(plan_digest)
        silent = [site_id for site_id in site_ids if site_id not in standing]
        if silent:
            waiting.append(f"plan {plan_digest[:12]} waits for {', '.join(silent)}")
    if waiting:
        return warned(
            "sites",
            "; ".join(waiting),
            remedy="Ask their approvers; runs begin when enough have approved.",
            who=OPERATOR,
        )
    return passed("sites", f"{len(site_ids)} members; no plan waits for an approval")


def check_runs(home: Home) -> Check:
    """Say which runs of this home are not finished; their ledgers are read, not opened."""
    found = {run_id: read_run(home.run(run_id) / "ledger.sqlite") for run_id in home.runs()}
    broken = [run_id for run_id, facts in found.items() if facts is None]
    waiting = [facts for facts in found.values() if facts and not facts.is_finished]
    going = [facts for facts in waiting if is_locked(home.run(facts.run_id))]
    stopped = [facts.run_id for facts in waiting if facts not in going]
    if broken:
        return failed(
            "runs",
            f"these cannot be read: {', '.join(broken)}",
            remedy="`hospitium run list` says why.",
            who=OPERATOR,
        )
    if stopped:
        return warned(
            "runs",
            f"stopped before their end: {', '.join(stopped)}",
            remedy=f"`hospitium run show {stopped[0]}` says why; then `hospitium run resume`.",
            who=OPERATOR,
        )
    words = ", ".join(f"{facts.run_id} (round {facts.last_closed} closed)" for facts in going)
    return passed("runs", f"running: {words or 'none'}; {len(found)} in all")
