"""The federation that every world begins with: enrolled by the real operations, once, as files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import standins
from carried import NAME, POLICY
from machines_of_simulation import Image
from tiny import tiny_plan
from virtual_time import BEGIN_UTC_S, World

from hospitium.engines.hub.local import LocalBackend
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import SPLITS, Cases
from hospitium.operations import approving
from hospitium.operations.approving import approve, take_plan
from hospitium.operations.coordinating import (
    admit_site,
    begin_federation,
    invite_site,
    receive_request,
    write_lists,
)
from hospitium.operations.enrolment import join, read_lists, take_members
from hospitium.operations.networked import start_networked
from hospitium.operations.offering import offer_plan
from hospitium.plan import Plan
from hospitium.plan.writing import to_toml
from hospitium.site.membership import membership
from hospitium.state.home import Home
from hospitium.wire.members import Members

NOW = datetime.fromtimestamp(BEGIN_UTC_S, UTC)
SITES = {"bergen": 40, "kiel": 25, "oslo": 60}
"""Sites and their training cases."""
RUN = "study"
ROUNDS = 2
QUORUM = 2
DEADLINE_S = 120.0
APPROVER = "Kari Nordmann"


@dataclass(frozen=True, kw_only=True)
class Template:
    """What each machine's disk holds at the beginning."""

    centre: Image
    sites: dict[str, Image]
    plan: Plan
    members: Members


@lru_cache(maxsize=1)
def template() -> Template:
    """Enrol, offer, approve and begin a run, by the real operations; return the files."""
    with memory() as folder, standins.within(World(0), [(approving, "admit_local", lambda s: {})]):
        return _made(folder)


@contextmanager
def memory() -> Iterator[Path]:
    """Yield a folder in memory, where there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


def _made(folder: Path) -> Template:
    home = Home(folder / "centre")
    begin_federation(home, NAME, addresses=["https://hub.example.org"], now=NOW, is_public_ca=True)
    for site_id in SITES:
        _admit(folder, home, site_id)
    plan = tiny_plan(rounds=ROUNDS, quorum=QUORUM, batching="equal", moments="reset")
    plan = replace(
        plan,
        rounds=replace(plan.rounds, deadline_s=DEADLINE_S, keep_last=1),
        evaluation=replace(plan.evaluation, every=10, choose="last"),
    )
    (folder / "plan.toml").write_text(to_toml(plan))
    offer_plan(home, NAME, folder / "plan.toml", out=folder / "signed.plan")
    desk = standins.hospitium.operations.attempts.Desk(home.folder / "coordinator" / NAME)
    for site_id in SITES:
        _approve(folder, home, desk, plan, site_id)
    start_networked(home, NAME, plan.digest, run_id=RUN, has_canary=False)
    LocalBackend(desk.folder / "hub").close()
    return Template(
        centre=image_of(home.folder),
        sites={site_id: image_of(folder / site_id) for site_id in SITES},
        plan=plan,
        members=desk.members(),
    )


def _admit(folder: Path, home: Home, site_id: str) -> None:
    invite, request = folder / f"{site_id}.invite", folder / f"{site_id}.request"
    invite_site(home, NAME, site_id, out=invite, now=NOW)
    found = join(
        Home(folder / site_id),
        invite,
        legal_entity=f"{site_id} hospital",
        request_out=request,
        now=NOW,
    )
    receive_request(home, NAME, request.read_bytes(), now=NOW)
    admit_site(home, NAME, site_id, heard=" ".join(found["words"]), now=NOW)


def _approve(folder: Path, home: Home, desk, plan: Plan, site_id: str) -> None:
    site = Home(folder / site_id)
    write_lists(home, NAME, out=folder / "members.lists")
    take_members(site, NAME, read_lists(folder / "members.lists"), now=NOW)
    place = membership(site.folder, NAME)
    policy = POLICY.format(needed=1) + "[isolation]\nrequired = false\n"
    place.folder.joinpath("policy.toml").write_text(policy)
    take_plan(site, NAME, (folder / "signed.plan").read_bytes())
    cases = place.folder / "cases" / "prepared"
    write_cases(cases, _cases(SITES[site_id]))
    approve(site, NAME, plan.digest, approver=APPROVER, cases=cases, now=NOW, isolation="cut_off")
    for number, envelope in place.statements.untold():
        desk.take_said(site_id, envelope)
        place.statements.mark_told(number)


def _cases(num_train: int) -> Cases:
    import numpy as np

    total = num_train + 4
    labels = np.arange(total) % 2
    return Cases(
        images=np.zeros((total, 1, 8, 8), np.float32) + labels[:, None, None, None] * 0.5,
        labels=labels.astype(np.int64),
        subjects=np.array([f"p{number}" for number in range(total)]),
        splits=np.array([SPLITS.index("train")] * num_train + [1] * 4, np.uint8),
        classes=("normal", "pneumonia"),
    )


def image_of(folder: Path) -> Image:
    """Return every file of a folder."""
    found: Image = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith("-shm"):
            found[str(path.relative_to(folder))] = path.read_bytes()
        elif path.is_dir() and not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = b""
    return found
