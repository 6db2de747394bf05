"""Training cases in memory: images, labels, subjects and splits, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError

Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Cases of one task, in the order in which they were read.

    Attributes:
        images: ``(case, channel, row, column)`` float32 in [0, 1], after harmonisation.
        labels: ``(case,)`` int64, an index into ``classes``.
        subjects: ``(case,)`` str; the unit of splitting. Stays at the site.
        splits: ``(case,)`` uint8, an index into ``SPLITS``.
        classes: Name of each class; the last one is "positive" where there are two.
        columns: Further columns of the source, ``(case,)`` str each: site, vendor, sex.
        skipped: How many files or rows were left out, per stable reason code.
        notes: How often something was tolerated or changed, per stable code.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.str_]
    splits: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, where: npt.NDArray[np.generic]) -> Cases:
        """Return the cases at these indices, or where this mask is true; nothing is skipped."""
        return replace(
            self,
            images=self.images[where],
            labels=self.labels[where],
            subjects=self.subjects[where],
            splits=self.splits[where],
            columns={name: column[where] for name, column in self.columns.items()},
            skipped={},
            notes={},
        )

    def split(self, name: Split) -> Cases:
        """Return the cases of one split."""
        return self.take(self.splits == SPLITS.index(name))

    def class_counts(self) -> dict[str, int]:
        """Return the number of cases of each class, in the order of ``classes``."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def concatenate(parts: Sequence[Cases]) -> Cases:
    """Join cases of the same classes and image shape; columns that not all have are dropped.

    Raises:
        DataError: There is nothing to join, or classes or shapes differ.
    """
    if not parts:
        raise DataError("No cases to join: the list of parts is empty.")
    first = parts[0]
    for part in parts[1:]:
        if part.classes != first.classes or part.images.shape[1:] != first.images.shape[1:]:
            raise DataError(
                f"Cases cannot be joined: classes {part.classes} of images {part.images.shape[1:]} "
                f"against {first.classes} of {first.images.shape[1:]}. Nothing was joined. "
                "Read all parts with the same plan."
            )
    shared = set(first.columns).intersection(*(set(part.columns) for part in parts))
    return Cases(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        subjects=np.concatenate([part.subjects for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
        classes=first.classes,
        columns={
            name: np.concatenate([part.columns[name] for part in parts]) for name in sorted(shared)
        },
        skipped=_added([part.skipped for part in parts]),
        notes=_added([part.notes for part in parts]),
    )


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of the counts of each code."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)
