"""Having a site go on with a run that it left because of what it was shown: by name and reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hospitium.engines.hub.transport import WORK
from hospitium.engines.hub.watched import SET_ASIDE, WATCH, WatchedRun
from hospitium.errors import TrustError, UsageError
from hospitium.operations.enrolment import joined
from hospitium.operations.site_watching import left_runs
from hospitium.site.egress import Egress
from hospitium.site.record import departures_of
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.statement import is_text, time_text

HERE = "this site"
"""Where a decision goes that stays."""


def resume_run(
    home: Home, federation: str | None, run_id: str, *, by: str, reason: str, now: datetime
) -> dict[str, Any]:
    """Have this site answer tasks of a run again that it was out of; everything is kept.

    The decision is an entry of the site's record, durably, before anything changes. What was seen
    of the run before, evidence and all, is moved aside and stays in every export. From then on the
    site watches anew: what it is shown next must hold by itself, and what does not ends its part
    again.

    Args:
        home: The site's installation.
        federation: Which one; None for the only one.
        run_id: The run.
        by: Who decides; one of those whom the policy names as approvers.
        reason: Why; both are printable ASCII.
        now: The time.

    Returns:
        ``federation, run_id, by, reason``, ``stopped`` (the reason of that time), ``n`` (the entry)
        and ``evidence`` (where all is now).

    Raises:
        UsageError: This site is not out of that run, or no name or reason is given. Nothing was
            changed.
        TrustError: The policy does not name this person (``policy``). Nothing was changed.
        CorruptedError: The site's record is not what was written. Nothing was changed.
        StorageError: What was seen could not be moved: the site is out still, and its record says
            that somebody decided. Try again.
    """
    place = joined(home, federation)
    for option, text in (("--as", by), ("--reason", reason)):
        if not is_text(text):
            raise UsageError(
                f"{option}: expected 1 to 512 printable ASCII characters on one line, found "
                f"{len(text)}. Nothing was changed. Who has a site go on after its evidence "
                "accused somebody is kept with name and reason: name both, in plain letters."
            )
    stopped = {row["run_id"]: row for row in left_runs(place)}
    if run_id not in stopped:
        listed = ", ".join(sorted(stopped)) or "none"
        raise UsageError(
            f"{run_id}: this site is not out of a run of that name; it is out of: {listed}. "
            "Nothing was changed. `hospitium site status` says why."
        )
    if by not in place.policy().approval.approvers:
        raise TrustError(
            "policy",
            f"{by!r} is not named in approval.approvers of this site's policy: whoever may approve "
            f"a plan may have the site go on with a run. {run_id} stays as it is. Ask one of them.",
        )
    work = place.folder / WORK
    watched = WatchedRun(work / WATCH / run_id)
    task = watched.folder / "evidence-task.dsse"
    facts = {
        "run_id": run_id,
        "by": by,
        "reason": reason,
        "stopped": stopped[run_id]["reason"],
        "evidence_sha256": digest(task.read_bytes()) if task.is_file() else "",
    }
    said = canonical_json({**facts, "time": time_text(now)})
    n = Egress(departures_of(place), destination=HERE).message("resumed", said, **facts)
    with durable.storage_errors(watched.folder):
        evidence = watched.set_aside(work / SET_ASIDE / run_id)
    return {
        "federation": place.settings.federation,
        **{name: facts[name] for name in ("run_id", "by", "reason", "stopped")},
        "n": n,
        "evidence": str(evidence),
    }
