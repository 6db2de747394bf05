"""Working on a run between machines until it is done: below quorum it is tried again, for ever.

What the run is waiting for stands in ``state.json`` in its folder, for whoever asks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hospitium.engines.hub.run_keys import delete_run_key
from hospitium.errors import (
    EngineError,
    HeldError,
    HospitiumError,
    InterruptedRunError,
    QuorumError,
)
from hospitium.operations.halting import wish_of
from hospitium.operations.held_updates import DECIDED
from hospitium.operations.networked import OverTheHub, canary_of
from hospitium.operations.networked_report import write_networked
from hospitium.operations.progress import Say
from hospitium.operations.running import open_ledger, run_canary, run_to_end
from hospitium.operations.seating import why_absent
from hospitium.state import durable, history
from hospitium.state.desk import Desk
from hospitium.state.ledger import RunLedger
from hospitium.wire.canonical import canonical_json
from hospitium.wire.statement import time_text

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""Between two attempts; each pause is twice the one before it."""

TICK_S = 0.25


def keep_trying(
    folder: Path,
    *,
    engines: Callable[[], OverTheHub],
    desk: Desk,
    say: Say,
    stop: threading.Event,
    first_pause_s: float = FIRST_PAUSE_S,
) -> bool:
    """Work on a run, its canary first, until it is finished; return whether it is.

    It ends early where a person pauses or stops the run, or ``stop`` is set. After an attempt with
    too few sites it waits, and tries again at once when the desk has changed.

    Args:
        folder: The run's folder.
        engines: Returns what opens engines to its sites, anew for each attempt.
        desk: Of its federation.
        say: Where progress goes.
        stop: Set when this process is to end.
        first_pause_s: Length of the first pause.
    """
    pause_s = first_pause_s
    while not stop.is_set() and not wish_of(folder):
        _tell_state(folder, {"state": "running"})
        before = _mark(desk, folder)
        try:
            _attempt(folder, engines=engines, desk=desk, say=say)
        except (InterruptedRunError, EngineError):
            break
        except HospitiumError as error:
            kind = "waiting" if isinstance(error, QuorumError | HeldError) else "failing"
            _tell_waiting(folder, desk, error, kind=kind, pause_s=pause_s)
            say({"kind": "stage", "text": f"{folder.name}: {error.code}: {error}"})
        else:
            _tell_state(folder, {"state": "finished"})
            return True
        is_changed = _wait(pause_s, lambda: stop.is_set() or wish_of(folder), desk, folder, before)
        pause_s = first_pause_s if is_changed else min(2 * pause_s, LONGEST_PAUSE_S)
    wish = wish_of(folder)
    _tell_state(folder, {"state": wish or "interrupted"})
    if wish:
        text = f"{folder.name}: {wish}, as asked; go on by `hospitium run resume {folder.name}`"
        say({"kind": "news", "text": text})
    return False


def state_of(folder: Path) -> dict[str, Any]:
    """Return what was last said of a run between machines; empty before anybody worked on it."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / "state.json").read_bytes())
        assert isinstance(found, dict)
        return found
    return {}


def canary_result(folder: Path) -> dict[str, Any] | None:
    """Return who answered in the canary of a run and who did not, and why; None without one."""
    place = canary_of(folder)
    if not RunLedger.exists(place):
        return None
    ledger = open_ledger(place)
    try:
        rows = history.participation(ledger)
        row: Mapping[str, Any] = rows[0] if rows else {"answered": [], "left_out": []}
        return {
            "run_id": ledger.run_id,
            "finished": ledger.is_finished,
            "answered": row["answered"],
            "left_out": row["left_out"],
        }
    finally:
        ledger.close()


def _attempt(folder: Path, *, engines: Callable[[], OverTheHub], desk: Desk, say: Say) -> None:
    """Go on with the canary if it is not done, then with the run, then write the report."""
    place = canary_of(folder)
    if RunLedger.exists(place):
        run_canary(place, engines=engines(), say=say, label=place.name)
        delete_run_key(place)  # nobody can open again what sites sent for it
        engines().forget(place.name)
        _say_canary(folder, say)
    run_to_end(folder, engines=engines(), say=say, label=folder.name)
    write_networked(folder, desk=desk)
    engines().forget(folder.name)


def _say_canary(folder: Path, say: Say) -> None:
    found = canary_result(folder)
    assert found is not None
    if state_of(folder).get("canary_told") or _num_closed(folder):
        return
    num = len(found["answered"])
    failed = "; ".join(f"{row['site_id']} ({row['reason']})" for row in found["left_out"])
    text = f"{folder.name}: canary: {num} of {num + len(found['left_out'])} sites answered"
    say({"kind": "stage", "text": f"{text}{'; not: ' + failed if failed else ''}; the run begins"})
    _tell_state(folder, {"state": "running", "canary_told": True})


def _wait(
    pause_s: float, is_over: Callable[[], object], desk: Desk, folder: Path, before: object
) -> bool:
    """Wait; return True early where something was said, False at the end or when it is over."""
    ticker = threading.Event()
    for _ in range(max(1, round(pause_s / TICK_S))):
        if is_over():
            return False
        if _mark(desk, folder) != before:
            return True
        ticker.wait(min(pause_s, TICK_S))
    return False


def _mark(desk: Desk, folder: Path) -> object:
    """Return what changes when a site may stand by a plan anew, or an update was decided about."""
    said = sum(len(list(path.iterdir())) for path in (desk.folder / "said").glob("*/*"))
    decided = (folder / DECIDED).stat().st_mtime_ns if (folder / DECIDED).exists() else 0
    return desk.members().digest, said, desk.all_cut_off(), decided


def _tell_waiting(
    folder: Path, desk: Desk, error: HospitiumError, *, kind: str, pause_s: float
) -> None:
    next_try = datetime.now(UTC) + timedelta(seconds=pause_s)
    fields = {"state": kind, "code": error.code, "error": str(error)}
    _tell_state(
        folder,
        {**fields, "waiting_for": _waiting_for(folder, desk), "next_try": time_text(next_try)},
    )


def _waiting_for(folder: Path, desk: Desk) -> list[dict[str, str]]:
    """Return the sites without which a run cannot go on, each with why."""
    found: dict[str, str] = {}
    place = canary_of(folder)
    with suppress(HospitiumError):
        is_canary = RunLedger.exists(place) and not _is_finished(place)
        ledger = open_ledger(place if is_canary else folder)
        try:
            standing = desk.standing(ledger.plan.digest)
            rows = history.participation(ledger)
            for row in rows[-1]["refused"] if rows else []:
                if row["attempt"] == rows[-1]["attempts"] - 1:
                    found[row["site_id"]] = row["reason"]
            for seat in ledger.seats:
                if seat.site_id not in standing:
                    found[seat.site_id] = why_absent(desk, ledger.plan.digest, seat.site_id)
        finally:
            ledger.close()
    return [{"site_id": name, "reason": found[name]} for name in sorted(found)]


def _is_finished(folder: Path) -> bool:
    with closing(open_ledger(folder)) as ledger:
        return ledger.is_finished


def _num_closed(folder: Path) -> int:
    with closing(open_ledger(folder)) as ledger:
        return ledger.last_closed


def _tell_state(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write what is to be said of a run; a disk that refuses is said by the ledger soon enough."""
    row = canonical_json({**fields, "time": time_text(datetime.now(UTC))})
    with suppress(HospitiumError):
        durable.write_atomically(folder / "state.json", lambda file: str(file.write(row)))
