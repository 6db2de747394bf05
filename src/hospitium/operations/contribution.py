"""The contribution record of a run: who took part in which round with how many cases, signed.

The coordinator's lines are the updates that its log says counted. A site's lines are those that its
own record says left, and that the coordinator has signed for; each site signs its own, and the
coordinator puts them together and says where the two differ.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hospitium.errors import TrustError, UnknownRunError, UsageError
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.enrolment import joined
from hospitium.site.membership import Membership
from hospitium.site.record import departures_of, egress_of
from hospitium.state.home import Home
from hospitium.state.ledger import RunLedger
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json
from hospitium.wire.contributions import (
    ConsortiumStatement,
    Line,
    Part,
    SiteStatement,
    open_consortium,
    open_site,
    read_lines,
    sign_consortium,
    sign_site,
    site_of,
)
from hospitium.wire.signing import VerifyKey
from hospitium.wire.statement import time_text

MAX_FILE_BYTES = 64 << 20
"""A site's file with a line for each of a hundred thousand rounds has some 15 MB."""


def of_run(home: Home, run_id: str, *, signed: Sequence[Path], now: datetime) -> dict[str, Any]:
    """Return the contribution record of a run, as the coordinator signs it.

    Args:
        home: The coordinator's installation.
        run_id: Of the run.
        signed: Files in which sites signed their own lines.
        now: The time.

    Returns:
        For each site its lines and ``standing``: ``signed``, ``differs`` (with where) or ``not
        signed``; agreement and licence of the plan; and the coordinator's signed statement, "" for
        a run on one machine, whose sites have no keys.

    Raises:
        UsageError: A file is of another run, or cannot be read.
        TrustError: A file was changed, or its site did not sign it.
    """
    ledger = RunLedger(home.run(run_id))
    try:
        lines = _counted(ledger)
        federation = str(ledger.facts.get("federation", ""))
        words = _signed_by_sites(home, federation, run_id, signed) if federation else {}
        sites: list[Json] = [_site(name, lines[name], words.get(name)) for name in sorted(lines)]
        agreement = ledger.plan.agreement
        found: dict[str, Any] = {
            "run_id": run_id,
            "federation": federation,
            "plan": ledger.plan.name,
            "plan_digest": ledger.plan.digest,
            "agreement": agreement.reference,
            "licence": agreement.licence,
            "status": "finished" if ledger.is_finished else "not finished",
            "sites": sites,
            "statement": "",
        }
        if federation:
            found["statement"] = _signed(home, federation, ledger, lines=lines, now=now)
        return found
    finally:
        ledger.close()


def of_site(home: Home, federation: str | None, run_id: str, *, now: datetime) -> dict[str, Any]:
    """Return a site's own lines of a run, signed; that they leave is recorded first.

    Raises:
        UnknownRunError: Nothing of this run left this site with the coordinator's receipt.
    """
    place = joined(home, federation)
    left = _left(place, run_id)
    if not left:
        raise UnknownRunError(
            f"{run_id}: no update of this site for it has a receipt. Nothing was signed. "
            "`hospitium egress list` shows what left, and for which run."
        )
    lines = _own_lines(place, run_id)
    said = SiteStatement(
        federation=place.settings.federation,
        run_id=run_id,
        plan_digest=left[-1]["plan_digest"],
        agreement=place.policy().agreement.reference,
        site_id=place.settings.site_id,
        rounds=len(lines),
        lines=Part.of(place.settings.site_id, lines).lines,
        time=time_text(now),
    )
    envelope = sign_site(said, place.signing_key())
    egress_of(place).message("contribution", envelope, run_id=run_id, plan_digest=said.plan_digest)
    return {
        "run_id": run_id,
        "site_id": said.site_id,
        "plan_digest": said.plan_digest,
        "agreement": said.agreement,
        "lines": _rows(lines),
        "statement": base64.b64encode(envelope).decode(),
    }


def check(home: Home, federation: str | None, path: Path) -> dict[str, Any]:
    """Check a record of the coordinator at a site: its signature, and that of each site.

    Args:
        home: The site's installation.
        federation: Which one, where there are several.
        path: The file that `hospitium run contribution RUN --out FILE` wrote.

    Returns:
        The record, and ``own``: whether this site's own lines in it are those that left here.

    Raises:
        TrustError: A signature does not hold, or is about other lines.
    """
    place, content = joined(home, federation), _read(path)
    try:
        lines = {str(row["site_id"]): read_lines(row["lines"]) for row in content["sites"]}
        texts = {str(row["site_id"]): str(row["statement"]) for row in content["sites"]}
    except (KeyError, TypeError) as error:
        raise TrustError("fields", f"{path.name}: this is no contribution record.") from error
    members = place.members()
    keys = [VerifyKey.from_hex(key) for key in members.coordinator_keys]
    said = open_consortium(base64.b64decode(content["statement"]), *keys, lines=lines)
    for site_id, text in texts.items():
        if text:
            key = VerifyKey.from_hex(members.site(site_id).signing_key)
            signer = site_of(base64.b64decode(text), key)
            if (signer.site_id, signer.run_id) != (site_id, said.run_id):
                raise TrustError("identity", f"{path.name}: {site_id} signed something else.")
    own = set(_own_lines(place, said.run_id))
    here = lines.get(place.settings.site_id, ())
    return {**content, "own": "agrees" if own >= set(here) else "differs"}


def write(found: Mapping[str, Json], out: Path) -> None:
    """Write a record as a file of one line of canonical JSON."""
    out.write_bytes(canonical_json(dict(found)) + b"\n")


def _left(place: Membership, run_id: str) -> list[Mapping[str, Any]]:
    """Return the entries of the updates for a run that left and have a receipt."""
    return [
        row.line.leaf
        for row in departures_of(place).rows()
        if row.line.leaf["kind"] == "update"
        and row.line.leaf["run_id"] == run_id
        and row.receipt is not None
    ]


def _own_lines(place: Membership, run_id: str) -> list[Line]:
    """Return the lines of a site by its own record: the last update of each round."""
    by_round = {leaf["round_number"]: leaf for leaf in _left(place, run_id)}
    return [
        Line(round_number=number, num_cases=leaf["num_cases"], update=leaf["params_sha256"])
        for number, leaf in sorted(by_round.items())
    ]


def _counted(ledger: RunLedger) -> dict[str, list[Line]]:
    """Return the lines of each site that has a seat: the updates that closed rounds are made of."""
    lines: dict[str, list[Line]] = {seat.site_id: [] for seat in ledger.seats}
    for _, closed in ledger.log.of("round_closed"):
        number = closed["round_number"]
        accepted = ledger.log.accepted(number)
        for site_id in closed["answered"]:
            leaf = accepted[site_id]
            lines[site_id].append(
                Line(round_number=number, num_cases=leaf["num_cases"], update=leaf["digest"])
            )
    return lines


def _signed_by_sites(
    home: Home, federation: str, run_id: str, files: Sequence[Path]
) -> dict[str, tuple[SiteStatement, tuple[Line, ...], str]]:
    """Return what sites signed, each checked against the key that the member list gives it."""
    members = existing(home, federation).members()
    found = {}
    for path in files:
        content = _read(path)
        site_id, text = str(content.get("site_id")), str(content.get("statement"))
        lines = read_lines(content.get("lines"))
        key = VerifyKey.from_hex(members.site(site_id).signing_key)
        said = open_site(base64.b64decode(text), key, lines=lines)
        if (said.site_id, said.federation, said.run_id) != (site_id, federation, run_id):
            raise TrustError("identity", f"{path.name}: it is of another site, run or federation.")
        found[site_id] = said, lines, text
    return found


def _site(
    site_id: str,
    lines: Sequence[Line],
    word: tuple[SiteStatement, tuple[Line, ...], str] | None,
) -> dict[str, Json]:
    """Return one site's part of the record, with where the two sides differ."""
    row: dict[str, Json] = {
        "site_id": site_id,
        "lines": _rows(lines),
        "standing": "not signed",
        "differs": [],
        "not_counted": [],
        "agreement": "",
        "statement": "",
    }
    if word is None:
        return row
    said, own, text = word
    differs: list[Json] = [line.round_number for line in lines if line not in own]
    counted = {line.round_number for line in lines}
    not_counted: list[Json] = [n.round_number for n in own if n.round_number not in counted]
    standing = "differs" if differs else "signed"
    return {
        **row,
        "standing": standing,
        "differs": differs,
        "not_counted": not_counted,
        "agreement": said.agreement,
        "statement": text,
    }


def _signed(
    home: Home,
    federation: str,
    ledger: RunLedger,
    *,
    lines: Mapping[str, Sequence[Line]],
    now: datetime,
) -> str:
    """Return the coordinator's statement about all lines."""
    desk, tree, chosen = existing(home, federation), ledger.log.tree(), ledger.chosen()
    said = ConsortiumStatement(
        federation=federation,
        run_id=ledger.run_id,
        plan_digest=ledger.plan.digest,
        members_digest=desk.members().digest,
        agreement=ledger.plan.agreement.reference,
        licence=ledger.plan.agreement.licence,
        model="" if chosen is None else chosen.digest,
        log_size=tree.size,
        log_root=tree.root().hex(),
        parts=tuple(Part.of(site_id, lines[site_id]) for site_id in sorted(lines)),
        time=time_text(now),
    )
    return base64.b64encode(sign_consortium(said, coordinator_key(desk))).decode()


def _rows(lines: Sequence[Line]) -> list[Json]:
    names = ("round_number", "num_cases", "update")
    return [{name: getattr(line, name) for name in names} for line in lines]


def _read(path: Path) -> dict[str, Any]:
    """Read a file that a site signed."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_bytes())
        base64.b64decode(content["statement"], validate=True)
        return dict(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path}: this is no file that `hospitium site contribution RUN --out FILE` wrote. "
            "Nothing was signed. Ask the site for it once more."
        ) from error
