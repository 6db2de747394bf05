"""What a run between machines cost each site: staff steps, compute, traffic, time waited for it.

Staff steps are counted from what people signed; nobody fills in a time sheet. Bytes are those of
files and envelopes in the rounds that a site answered, once each: what went to a site in vain, or
again after a broken line, is not known here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hospitium.state import history
from hospitium.state.desk import Desk
from hospitium.state.ledger import RunLedger
from hospitium.wire.approvals import Approval, Refusal

NOT_REPORTED = "the site's agent did not report it"


def costs(ledger: RunLedger, desk: Desk, *, down: int, up: int) -> dict[str, Any]:
    """Return the costs of each site, by ``site_id``.

    Args:
        ledger: Of the run.
        desk: Of its federation.
        down: Bytes of one task to one site.
        up: Bytes of one update from it.
    """
    rows, beats = history.work(ledger), desk.beats()
    steps, waited = _staff_steps(desk, ledger.plan.digest), waits(rows)
    found = {}
    for seat in ledger.seats:
        own = [row for row in rows if row["site_id"] == seat.site_id]
        answered = [row for row in own if row["status"] == "accepted"]
        late = [wait["seconds"] for wait in waited if seat.site_id in wait["for"]]
        found[seat.site_id] = {
            "staff_steps": steps.get(seat.site_id, {"total": 0}),
            "compute_s": round(sum(row["train_s"] for row in answered), 3),
            "bytes_down": down * len(answered),
            "bytes_up": up * len(answered),
            **_peaks(beats.get(seat.site_id, {})),
            "rounds_last": len(late),
            "waited_for_s": round(sum(late), 3),
        }
    return found


def waits(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each closed round, for whom it waited last and for how many seconds.

    Where somebody did not come until the deadline, it is them, from the last answer to the end of
    the round; else it is the site that answered last, from the answer before it on.

    Args:
        rows: As `hospitium.state.history.work` returns them.
    """
    rounds = defaultdict(list)
    for row in rows:
        if row["closed_utc"]:
            rounds[row["round"]].append(row)
    found = []
    for number, seats in sorted(rounds.items()):
        came = sorted(
            (datetime.fromisoformat(row["answered_utc"]), row["site_id"])
            for row in seats
            if row["status"] == "accepted" and row["answered_utc"]
        )
        silent = [row["site_id"] for row in seats if row["reason"] in ("deadline", "no_answer")]
        if silent and came:
            end = datetime.fromisoformat(seats[0]["closed_utc"])
            found.append(_wait(number, silent, (end - came[-1][0]).total_seconds()))
        elif len(came) > 1:
            gap = (came[-1][0] - came[-2][0]).total_seconds()
            found.append(_wait(number, [came[-1][1]], gap))
    return found


def _wait(number: int, names: Sequence[str], seconds: float) -> dict[str, Any]:
    return {"round": number, "for": list(names), "seconds": round(max(0.0, seconds), 3)}


def _staff_steps(desk: Desk, plan_digest: str) -> dict[str, dict[str, int]]:
    """Count what people at each site signed: that they join, and what they said of this plan."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for site_id in desk.invited():
        if desk.request(site_id) is not None:
            counts[site_id]["join"] += 1
    for said in desk.said(plan_digest):
        is_yes, is_no = isinstance(said, Approval), isinstance(said, Refusal)
        counts[said.site_id]["approve" if is_yes else "refuse" if is_no else "withdraw"] += 1
    return {name: {**each, "total": each.total()} for name, each in counts.items()}


def _peaks(beat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the largest memory and disk that a site's heartbeat named, or why they are unknown."""
    peaks = {name: beat.get(name) or None for name in ("peak_memory_bytes", "peak_disk_bytes")}
    missing = {name: NOT_REPORTED for name, value in peaks.items() if value is None}
    return {**peaks, "missing": missing}
