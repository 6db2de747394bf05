"""A run between machines: who has a seat at its beginning, its canary, and the engine to its sites.

Beginning a run only changes the home folder; `hospitium coordinator up` takes it up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.cosigning import Cosigning
from hospitium.engines.hub.engine import HubEngine
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.run_keys import run_key
from hospitium.errors import QuorumError, StateConflictError, UsageError
from hospitium.operations.desks import existing
from hospitium.operations.first_params import first_params
from hospitium.operations.new_runs import new_run
from hospitium.operations.offering import unresolved
from hospitium.operations.seating import Seated, Seating, why_absent
from hospitium.plan import Plan, load_plan
from hospitium.plan.reading import plan_from_dict
from hospitium.state import durable
from hospitium.state.desk import Desk
from hospitium.state.home import Home
from hospitium.state.ledger import RunLedger
from hospitium.training.plugins import Plugin
from hospitium.types import Engine, Json, Seat
from hospitium.wire.approvals import open_plan
from hospitium.wire.signing import SigningKey

MAX_RUN_ID = 57
CANARY = "-canary"


def start_networked(
    home: Home,
    federation: str,
    plan_name: str,
    *,
    run_id: str | None = None,
    has_canary: bool = True,
    out: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Begin a run of an offered plan with the sites that have approved it.

    Args:
        home: This installation.
        federation: Which federation.
        plan_name: The plan's file, or the first characters of its digest.
        run_id: Name of the run; None makes one.
        has_canary: Whether one round is run from end to end first.
        out: Folder for the report.
        command: How it was begun, for the report.

    Returns:
        The run, its plan, the sites with a seat, and who has not approved, and why.

    Raises:
        UsageError: The plan was not offered, or the name is too long.
        QuorumError: Too few sites have approved it. Nothing was begun.
        StateConflictError: A run of this name exists, or once did.
    """
    desk = existing(home, federation)
    plan = _offered(desk, plan_name)
    run_id = run_id or f"{plan.name[:40]}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if len(run_id) > MAX_RUN_ID:
        raise UsageError(f"{run_id!r}: a run's name has {MAX_RUN_ID} characters at most.")
    home.free_run(run_id)
    names = _UsedNames(home)
    names.require_free(run_id)
    seats, absent = _seats(desk, plan)
    named = plan.model.init_file
    facts: dict[str, Json] = {
        "federation": federation,
        "command": command,
        "init_file": str(Path(named).resolve()) if named else "",
        "canary": has_canary,
    }
    first_params(plan, Plugin(), init_file=str(facts["init_file"]))  # fails before it is begun
    names.take(run_id)
    if has_canary:
        with new_run(home, run_id + CANARY, out=None) as folder:
            canary_facts = {**facts, "canary": False, "canary_of": run_id}
            RunLedger.create(
                folder, run_id=run_id + CANARY, plan=plan, seats=seats, facts=canary_facts
            )
    with new_run(home, run_id, out=out) as folder:
        facts["out"] = str((out or folder / "report").resolve())
        RunLedger.create(folder, run_id=run_id, plan=plan, seats=seats, facts=facts)
    return {
        "run_id": run_id,
        "federation": federation,
        "plan_digest": plan.digest,
        "canary": run_id + CANARY if has_canary else "",
        "sites": [{"site_id": seat.site_id, "num_cases": seat.num_cases} for seat in seats],
        "not_approved": [{"site_id": name, "reason": why} for name, why in absent.items()],
        "folder": str(folder),
    }


class OverTheHub:
    """The engine to the sites of one federation, for one run at a time; `stop` ends it at once.

    Args:
        backend: Of the federation's hub, in this process.
        desk: The federation's.
        key: The coordinator's signing key.
    """

    def __init__(self, backend: Backend, *, desk: Desk, key: SigningKey) -> None:
        self._backend = backend
        self._desk = desk
        self._key = key
        self._engine: HubEngine | None = None
        self._stopped = threading.Event()

    def open(self, ledger: RunLedger) -> Engine:
        """Return an engine that asks the sites that stand by the plan of this run."""
        seating = Seating(ledger, self._desk)
        engine = HubEngine(
            self._backend,
            members=Office(self._desk).members,
            key=self._key,
            store=ledger.store,
            sites=seating.chosen,
            members_digest=lambda: self._desk.members().digest,
            run_key=run_key(ledger.folder),
            cosigning=Cosigning(ledger.log, key=self._key, federation=self._desk.folder.name),
        )
        self._engine = engine
        if self._stopped.is_set():
            engine.close()
        return Seated(engine, seating)

    def forget(self, run_id: str) -> None:
        """Let the hub delete what sites handed in for a run that is over."""
        self._backend.forget(run_id)

    def stop(self) -> None:
        """Wait for no site any more; what sites hand in meanwhile is kept."""
        self._stopped.set()
        if self._engine is not None:
            self._engine.close()


class _UsedNames:
    """The names of all runs between machines that were ever begun here, those that are gone too.

    Sites keep what belongs to a run, as answers and the state of an optimizer, under its name: a
    name that came twice would bring what is left of one run into the other.
    """

    def __init__(self, home: Home) -> None:
        self._folder = home.folder / "coordinator" / ".run-names"

    def require_free(self, run_id: str) -> None:
        """Refuse a name that a run has, or had.

        Raises:
            StateConflictError: It is used. Nothing was begun.
        """
        if (self._folder / run_id).exists():
            raise StateConflictError(
                f"{run_id}: a run of this name was begun here before, and sites may still hold "
                "what belongs to it. Nothing was begun. Choose another name."
            )

    def take(self, run_id: str) -> None:
        """Use up a name and that of its canary, for good."""
        durable.make_folder(self._folder)
        for name in (run_id, run_id + CANARY):
            self.require_free(name)
            durable.write_once(self._folder / name, b"")


def canary_of(folder: Path) -> Path:
    """Return where the canary of a run is, or would be."""
    return folder.with_name(folder.name + CANARY)


def _offered(desk: Desk, name: str) -> Plan:
    """Return the offered plan that is meant: by file, as it stands or as it was filled in.

    Raises:
        UsageError: It was not offered.
    """
    members = desk.members()
    plans = [json.loads(open_plan(envelope, members)) for envelope in desk.plans()]
    offered = {plan.digest: plan for plan in map(plan_from_dict, plans)}
    if Path(name).is_file():
        wanted = load_plan(Path(name)).digest
        found = [p for p in offered.values() if wanted in (p.digest, unresolved(p).digest)]
        found = [p for p in found if p.digest == wanted] or found
    else:
        found = [p for digest, p in offered.items() if digest.startswith(name) and len(name) >= 8]
    if not found:
        known = ", ".join(f"{p.name} ({digest[:12]})" for digest, p in offered.items())
        raise UsageError(
            f"{name}: this plan was not offered to the sites of {desk.folder.name}. Nothing was "
            f"begun. Offered: {known or 'nothing yet'}. The study lead: `hospitium coordinator "
            "offer PLAN`; then each site approves it."
        )
    return found[-1]


def _seats(desk: Desk, plan: Plan) -> tuple[Sequence[Seat], dict[str, str]]:
    """Return the seats of those who approved, and why the other members have none.

    Raises:
        QuorumError: They are too few.
    """
    members, standing = desk.members(), desk.standing(plan.digest)
    seats = [
        Seat(site_id=site_id, num_cases=standing[site_id].num_cases) for site_id in sorted(standing)
    ]
    absent = {
        site.site_id: why_absent(desk, plan.digest, site.site_id)
        for site in members.sites
        if site.site_id not in standing
    }
    needed = max(plan.rounds.quorum, members.min_sites)
    if len(seats) < needed:
        listed = "; ".join(f"{name} ({why})" for name, why in absent.items()) or "nobody"
        raise QuorumError(
            f"{plan.name}: {len(seats)} of {len(members.sites)} members have approved this plan; "
            f"{needed} are needed. Not yet: {listed}. Nothing was begun. These sites: `hospitium "
            "site inbox`, then `hospitium site approve`."
        )
    return seats, absent


def place_of(home: Home, run_id: str) -> tuple[Path, str, bool]:
    """Return a run's folder, its federation ("" on this machine), and whether it is finished.

    Raises:
        StateConflictError: It is a canary, which follows the run that it is for.
    """
    folder = home.run(run_id)
    ledger = RunLedger(folder)
    try:
        if main := str(ledger.facts.get("canary_of", "")):
            raise StateConflictError(
                f"{run_id} is the canary of {main}. Nothing was changed. Say it of {main}."
            )
        return folder, str(ledger.facts.get("federation", "")), ledger.is_finished
    finally:
        ledger.close()
