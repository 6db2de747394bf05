"""The input gate: what an update must be before anything of it is added.

This file checks the fields and the shape of an update; its values (finite, norm) are checked
in the same pass that adds them, in ``privacy/exact_sum.py``, so that memory is read once.
"""

from __future__ import annotations

from collections.abc import Mapping

from hospitium.errors import UpdateError
from hospitium.types import Seat, Task, Update
from hospitium.wire.blob import Manifest, manifest_of

REASONS = (
    "size", "signature", "canonical", "fields", "identity", "members", "plan", "round",
    "seat_conflict", "base", "weight", "blob_size", "blob_digest", "header", "non_finite",
    "norm", "late", "internal",
)  # fmt: skip
"""The closed list of reasons for which an update is refused."""

MAX_SUM = 1 << 53
MAX_SUMS = 64
MAX_SUM_LENGTH = 1 << 16


def check_update(
    update: Update,
    *,
    task: Task,
    seat: Seat | None,
    manifest: Manifest,
    sum_lengths: Mapping[str, int] | None = None,
) -> None:
    """Refuse an update that is not an answer to this task, from this seat, of this shape.

    Args:
        update: What came in.
        task: What was asked.
        seat: The sender's place in the run; None if it has none.
        manifest: Names, dtypes and shapes that the task's params have.
        sum_lengths: Names and lengths of the metric sums that this task asks for; None takes any.

    Raises:
        UpdateError: The first check that fails, with its reason. Nothing was changed.
    """
    if seat is None or seat.site_id != update.site_id:
        raise _refused("members", update, "it has no seat in this run")
    if update.run_id != task.run_id or update.plan_digest != task.plan_digest:
        raise _refused("plan", update, "it answers another run or another plan")
    if update.round_number != task.round_number:
        raise _refused(
            "round", update, f"it answers round {update.round_number}, not {task.round_number}"
        )
    if update.base_digest != task.base_digest:
        raise _refused("base", update, "it was trained from other params than this round's")
    if type(update.num_cases) is not int or update.num_cases != seat.num_cases:
        raise _refused(
            "weight", update, f"it claims {update.num_cases} cases, enrolled were {seat.num_cases}"
        )
    _check_sums(update, sum_lengths)
    expected = manifest if task.purpose == "train" else ()
    _check_shape(update, expected)


def _check_shape(update: Update, expected: Manifest) -> None:
    """Refuse params whose names, dtypes or shapes are not the task's."""
    try:
        found = manifest_of(update.delta)
    except (TypeError, AttributeError) as error:
        raise _refused("header", update, "a param is not an array that travels") from error
    if found == expected:
        return
    names, wanted = {row[0] for row in found}, {row[0] for row in expected}
    if names != wanted:
        lacks, adds = sorted(wanted - names)[:3], sorted(names - wanted)[:3]
        raise _refused("header", update, f"its params lack {lacks} and add {adds}")
    wrong = next(pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1])
    raise _refused("header", update, f"param {wrong[0]} was to be {wrong[1]}")


def _check_sums(update: Update, lengths: Mapping[str, int] | None) -> None:
    """Refuse metric sums that are not short vectors of modest counts, or not those asked for."""
    if len(update.sums) > MAX_SUMS:
        raise _refused("fields", update, f"it has {len(update.sums)} metric sums")
    for name, values in update.sums.items():
        if type(values) is not tuple or len(values) > MAX_SUM_LENGTH:
            raise _refused("fields", update, f"metric sum {name[:40]!r} is not a short tuple")
        if not all(type(value) is int and 0 <= value <= MAX_SUM for value in values):
            raise _refused("fields", update, f"metric sum {name[:40]!r} is not made of counts")
    if lengths is not None and lengths != {n: len(values) for n, values in update.sums.items()}:
        raise _refused("fields", update, "its metric sums are not those that were asked for")


def _refused(reason: str, update: Update, found: str) -> UpdateError:
    return UpdateError(
        reason,
        f"Round {update.round_number}: the update of {update.site_id} was refused ({reason}): "
        f"{found}. Nothing of it was added.",
    )
