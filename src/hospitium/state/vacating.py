"""Taking back the seat of an update that was accepted in a round which is still open."""

from __future__ import annotations

from hospitium.state.database import Transaction
from hospitium.state.run_log import log_append, utc_text

_VACATE = (
    "UPDATE seats SET status = ?, reason = ?, digest = NULL, num_cases = NULL, num_steps = NULL, "
    "train_s = NULL, sums = NULL, answered_utc = ? "
    "WHERE round_number = ? AND site_id = ? AND status = 'accepted'"
)


def strike(change: Transaction, round_number: int, site_id: str, *, reason: str) -> None:
    """Leave out a site that must not count any more."""
    change.change_one(
        _VACATE,
        ("left_out", reason, utc_text(), round_number, site_id),
        what=f"Leaving out {site_id}, which had answered,",
    )
    log_append(change, "struck", round_number=round_number, site_id=site_id, reason=reason)


def ask_again(change: Transaction, round_number: int, site_id: str) -> None:
    """Ask a site again whose update was lost."""
    change.change_one(
        _VACATE,
        ("asked", None, None, round_number, site_id),
        what=f"Asking {site_id} again, whose update was lost,",
    )
    log_append(change, "asked_again", round_number=round_number, site_id=site_id)
