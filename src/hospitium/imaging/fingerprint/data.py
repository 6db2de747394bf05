"""The data fingerprint: integer histograms of subjects, which add up over sites."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from hospitium.imaging.fingerprint.histograms import FIELDS, NONE
from hospitium.imaging.fingerprint.measuring import Votes, vote

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What one site's machine can do; of machines, not of persons, so it is not suppressed.

    Each is None where it was not measured.

    Attributes:
        memory_gib: Main memory.
        gpu_memory_gib: Memory of the largest GPU; 0 without one.
        cores: Of the processor.
        read_mb_s: Bytes of images read and decoded in a second, by one core.
        steps_s: Optimizer steps of a plan in a second.
        hours: Of a day in which the machine may train.
    """

    memory_gib: float | None = None
    gpu_memory_gib: float | None = None
    cores: int | None = None
    read_mb_s: float | None = None
    steps_s: float | None = None
    hours: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """How many subjects have which value, field by field.

    Attributes:
        num_subjects: All of them; the cells of each field sum to it.
        counts: Of each field, the cells that are not 0.
        least: No cell holds 1 to ``least - 1`` subjects; 0: not suppressed, must not leave.
        capacity: Of each site that is in the sum.
    """

    num_subjects: int
    counts: Counts
    least: int = 0
    capacity: tuple[Capacity, ...] = ()

    def of(self, name: str) -> Mapping[str, int]:
        """Return the cells of a field; of one that nobody has, all subjects in ``none``."""
        return self.counts.get(name) or ({NONE: self.num_subjects} if self.num_subjects else {})

    def share(self, name: str, cell: str) -> float:
        """Return a cell's share of the subjects for whom the field has a value; 0 of none."""
        cells = self.of(name)
        known = sum(count for key, count in cells.items() if key != NONE)
        return cells.get(cell, 0) / known if known else 0.0


EMPTY_FINGERPRINT = Fingerprint(num_subjects=0, counts={})


def fingerprint_of(subjects: Iterable[Votes], *, capacity: Capacity | None = None) -> Fingerprint:
    """Count the subjects' votes, one in each field."""
    num_subjects, counts = 0, defaultdict[str, Counter[str]](Counter)
    for votes in subjects:
        num_subjects += 1
        for name, cell in votes.items():
            counts[name][cell] += 1
    names = (*FIELDS, *(name for name in counts if name not in FIELDS))
    return Fingerprint(
        num_subjects=num_subjects,
        counts={name: _complete(counts[name], num_subjects) for name in names},
        capacity=() if capacity is None else (capacity,),
    )


def fingerprint_of_images(
    images: Iterable[tuple[str, Votes]], *, capacity: Capacity | None = None
) -> Fingerprint:
    """Count subjects whose images come in any order, as pairs of a local subject and its votes."""
    by_subject = defaultdict[str, list[Votes]](list)
    for subject, votes in images:
        by_subject[subject].append(votes)
    return fingerprint_of(map(vote, by_subject.values()), capacity=capacity)


def add(first: Fingerprint, second: Fingerprint) -> Fingerprint:
    """Return the fingerprint of both sites' subjects together.

    The sum of two sites' fingerprints before suppression equals the fingerprint of the union of
    their subjects, where no person is at both. After suppression it differs by what was moved.
    """
    names = (*first.counts, *(name for name in second.counts if name not in first.counts))
    return Fingerprint(
        num_subjects=first.num_subjects + second.num_subjects,
        counts={
            name: dict(sorted((Counter(first.of(name)) + Counter(second.of(name))).items()))
            for name in names
        },
        least=min(first.least, second.least),
        capacity=first.capacity + second.capacity,
    )


def total(fingerprints: Iterable[Fingerprint]) -> Fingerprint:
    """Return the sum of some fingerprints, at least one."""
    return reduce(add, fingerprints)


def _complete(cells: Counter[str], num_subjects: int) -> dict[str, int]:
    """Return the cells in order, with those who gave no vote in ``none``."""
    without = num_subjects - cells.total()
    found = dict(cells)
    if without:
        found[NONE] = found.get(NONE, 0) + without
    return dict(sorted(found.items()))
