"""The plans that a coordinator offered to a site: signed files, each under its plan's digest."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hospitium.errors import TrustError
from hospitium.plan import Plan
from hospitium.plan.reading import plan_from_dict
from hospitium.state import durable
from hospitium.wire.approvals import open_plan
from hospitium.wire.members import Members


class PlanInbox:
    """A folder of plans.

    Args:
        folder: Where they are; need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, envelope: bytes, members: Members) -> Plan:
        """Keep a plan that the coordinator of a member list signed.

        Raises:
            TrustError: Somebody else signed it, or it was changed.
            PlanError: It cannot be read by this version.
        """
        plan = _plan_of(open_plan(envelope, members))
        durable.make_folder(self._folder)
        durable.write_once(self._folder / f"{plan.digest}.dsse", envelope)
        return plan

    def digests(self) -> list[str]:
        """Return the digest of everything that ever came in, oldest first."""
        paths = list(self._folder.glob("*.dsse"))
        paths.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [path.stem for path in paths]

    def plan(self, plan_digest: str, members: Members) -> Plan | None:
        """Return one plan; None where it never came, or another coordinator signed it."""
        path = self._folder / f"{plan_digest}.dsse"
        if not path.is_file():
            return None
        with suppress(TrustError):
            return _plan_of(open_plan(path.read_bytes(), members))
        return None

    def plans(self, members: Members) -> list[Plan]:
        """Return the plans, oldest first.

        Those that the coordinator of this member list did not sign are passed over.
        """
        found = (self.plan(name, members) for name in self.digests())
        return [plan for plan in found if plan is not None]


def _plan_of(payload: bytes) -> Plan:
    """Return the plan of its canonical bytes.

    Raises:
        TrustError: They are not the plan's canonical bytes (``canonical``).
    """
    try:
        table: Any = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise TrustError("canonical", "A plan that is not canonical was refused.") from error
    if not isinstance(table, dict):
        raise TrustError("canonical", "A plan that is not canonical was refused.")
    plan = plan_from_dict(table, where="the plan of the coordinator")
    if plan.canonical != payload:
        raise TrustError("canonical", "A plan that is not canonical was refused.")
    return plan
