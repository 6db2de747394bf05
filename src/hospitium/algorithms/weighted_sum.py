"""The aggregate of every algorithm whose step needs only a weighted mean: gate, then exact sum."""

from __future__ import annotations

from collections.abc import Mapping

from hospitium.algorithms.norm_bound import NORM_SUM, NUM_BINS, is_norm_sum
from hospitium.errors import UpdateError
from hospitium.privacy.exact_sum import ExactSum
from hospitium.types import Result, Seat, Sums, Task, Update
from hospitium.wire.blob import manifest_of
from hospitium.wire.gate import check_update


class WeightedSum:
    """The running sum of one round's updates, one per seat.

    Args:
        task: What was asked.
        seats: The sites of the run, by name.
        weights: Integer weight of each site (`weights`).
        sum_lengths: Names and lengths of the metric sums that a site measures; None takes any, as
            long as all sites send the same lengths.
    """

    def __init__(
        self,
        task: Task,
        *,
        seats: Mapping[str, Seat],
        weights: Mapping[str, int],
        sum_lengths: Mapping[str, int] | None = None,
    ) -> None:
        self._task = task
        self._seats = seats
        self._weights = weights
        self._manifest = manifest_of(task.params)
        self._sum_lengths = sum_lengths
        if sum_lengths is not None and task.purpose == "train":
            self._sum_lengths = {**sum_lengths, NORM_SUM: NUM_BINS}
        self._sum = ExactSum(self._manifest, max_norm=task.max_norm, max_sites=max(1, len(seats)))
        self._metric_sums: dict[str, tuple[int, ...]] = {}
        self._taken: set[str] = set()

    @property
    def num_sites(self) -> int:
        """How many updates were added."""
        return len(self._taken)

    def add(self, update: Update) -> None:
        """Check everything about an update, then add all of it.

        Raises:
            UpdateError: It is not acceptable; nothing has changed. A second update of a seat is a
                ``seat_conflict``, whatever it holds.
        """
        seat = self._seats.get(update.site_id)
        check_update(
            update,
            task=self._task,
            seat=seat,
            manifest=self._manifest,
            sum_lengths=self._sum_lengths,
        )
        if NORM_SUM in update.sums and not is_norm_sum(update.sums[NORM_SUM]):
            raise _named(update, "fields", "it does not state one norm")
        if update.site_id in self._taken:
            raise _named(update, "seat_conflict", "its seat has already answered in this round")
        sums = _added(self._metric_sums, update)
        if self._task.purpose == "train":
            try:
                self._sum.add(update.delta, weight=self._weights[update.site_id])
            except UpdateError as error:
                raise _named(update, error.reason, str(error)) from None
        self._metric_sums = sums
        self._taken.add(update.site_id)

    def result(self) -> Result:
        """Return the weighted mean of what was added, and the sums of the metrics; once."""
        return Result(
            delta=self._sum.mean() if self._sum.sum_weight else {},
            sum_weight=self._sum.sum_weight,
            site_ids=frozenset(self._taken),
            sums=self._metric_sums,
        )


def _added(total: Sums, update: Update) -> dict[str, tuple[int, ...]]:
    """Return the metric sums with one update's added; all sites send vectors of one length."""
    sums = dict(total)
    for name, values in update.sums.items():
        before = sums.get(name, (0,) * len(values))
        if len(before) != len(values):
            raise _named(update, "fields", f"metric sum {name!r} has another length than others'")
        sums[name] = tuple(a + b for a, b in zip(before, values, strict=True))
    return sums


def _named(update: Update, reason: str, found: str) -> UpdateError:
    """Say which site's update in which round was refused."""
    return UpdateError(
        reason,
        f"Round {update.round_number}: the update of {update.site_id} was refused ({reason}): "
        f"{found}",
    )
