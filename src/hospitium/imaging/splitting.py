"""Which cases train, validate and test: by subject, from a keyed hash of the subject."""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError
from hospitium.imaging.cases import SPLITS
from hospitium.randomness import seed_of

FRACTIONS = (0.7, 0.1, 0.2)
STRATIFY_BELOW = 50
_TRAIN, _VAL, _TEST = range(len(SPLITS))


def assign_splits(
    *,
    subjects: Sequence[str],
    labels: Sequence[int],
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
) -> npt.NDArray[np.uint8]:
    """Give each case a split, so that a subject is in exactly one.

    A subject's place is an HMAC of its name, keyed by the seed, against the fractions: new cases
    do not move old ones. A class with fewer than 50 subjects is shared out by rank of that number
    instead, so that its shares are as exact as they can be; there, new subjects may move others.
    A subject with cases of several classes counts for the rarest. Each split with a fraction
    above 0 gets a subject of every class that has enough of them (three, for three splits).

    Args:
        subjects: Subject of each case.
        labels: Class index of each case.
        seed: The plan's seed.
        fractions: Of train, val and test; they sum to 1.

    Returns:
        Index into ``SPLITS`` of each case, uint8. With fewer subjects than splits, test is
        served before validation.
    """
    strata = _strata(subjects, labels)
    split_of: dict[str, int] = {}
    for members in strata.values():
        split_of.update(_shared_out(members, seed=seed, fractions=fractions))
    _fill_empty(split_of, seed=seed, fractions=fractions)
    return np.array([split_of[subject] for subject in subjects], dtype=np.uint8)


def complete_splits(
    *, splits: npt.NDArray[np.uint8], subjects: Sequence[str], labels: Sequence[int], seed: int
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Take a validation or test part that was not given from training, by subject.

    Their shares of the training cases are those that they would have had without any given split.

    Returns:
        Splits of which none is empty, and notes: ``val_taken_from_train``,
        ``test_taken_from_train``.

    Raises:
        DataError: A split is empty and there are too few subjects to fill it.
    """
    absent = [index for index in range(len(SPLITS)) if not (splits == index).any()]
    wanted = [FRACTIONS[i] if i == _TRAIN or i in absent else 0.0 for i in range(len(SPLITS))]
    result = splits.copy()
    if absent and _TRAIN not in absent:
        where = np.flatnonzero(splits == _TRAIN).tolist()
        result[where] = assign_splits(
            subjects=[subjects[i] for i in where],
            labels=[labels[i] for i in where],
            seed=seed,
            fractions=(wanted[0] / sum(wanted), wanted[1] / sum(wanted), wanted[2] / sum(wanted)),
        )
    require_all_splits(result, num_subjects=len(set(subjects)))
    return result, tuple(f"{SPLITS[index]}_taken_from_train" for index in absent)


def require_all_splits(splits: npt.NDArray[np.uint8], *, num_subjects: int) -> None:
    """Refuse data of which a split is empty.

    Raises:
        DataError: It names the empty splits.
    """
    empty = [name for index, name in enumerate(SPLITS) if not (splits == index).any()]
    if empty:
        raise DataError(
            f"Splitting {len(splits)} usable cases of {num_subjects} subjects: no cases for "
            f"{' and '.join(empty)}, expected some in each of {', '.join(SPLITS)}. Nothing was "
            "written. Add cases of more subjects, or correct the split and subject columns "
            "of the table."
        )


def join_duplicates(*, subjects: Sequence[str], digests: Sequence[bytes]) -> tuple[list[str], int]:
    """Join the subjects of exactly equal images into one, named after the first of them.

    Returns:
        The subject of each case, and how many images are copies of an earlier one.
    """
    parent = {subject: subject for subject in subjects}
    order = {subject: index for index, subject in reversed(list(enumerate(subjects)))}

    def root(subject: str) -> str:
        while parent[subject] != subject:
            parent[subject] = parent[parent[subject]]
            subject = parent[subject]
        return subject

    first_with: dict[bytes, str] = {}
    num_copies = 0
    for subject, digest in zip(subjects, digests, strict=True):
        if digest not in first_with:
            first_with[digest] = subject
            continue
        num_copies += 1
        pair = sorted((root(first_with[digest]), root(subject)), key=order.__getitem__)
        parent[pair[1]] = pair[0]
    return [root(subject) for subject in subjects], num_copies


def _strata(subjects: Sequence[str], labels: Sequence[int]) -> dict[int, list[str]]:
    """Return the subjects of each class; a subject of several is in the rarest."""
    classes: defaultdict[str, set[int]] = defaultdict(set)
    for subject, label in zip(subjects, labels, strict=True):
        classes[subject].add(label)
    sizes: defaultdict[int, int] = defaultdict(int)
    for found in classes.values():
        for label in found:
            sizes[label] += 1
    strata: defaultdict[int, list[str]] = defaultdict(list)
    for subject, found in classes.items():
        strata[min(found, key=lambda label: (sizes[label], label))].append(subject)
    return dict(sorted(strata.items()))


def _shared_out(
    members: Sequence[str], *, seed: int, fractions: tuple[float, float, float]
) -> dict[str, int]:
    """Return the split of each subject of one class."""
    places = {subject: _place(subject, seed=seed) for subject in members}
    if len(members) < STRATIFY_BELOW:
        ranked = sorted(members, key=lambda subject: (places[subject], subject))
        places = {subject: (rank + 0.5) / len(ranked) for rank, subject in enumerate(ranked)}
    ends = np.cumsum(fractions)[:-1]
    split_of = {
        subject: int(np.searchsorted(ends, place, side="right"))
        for subject, place in places.items()
    }
    _fill_empty(split_of, seed=seed, fractions=fractions)
    return split_of


def _fill_empty(
    split_of: dict[str, int], *, seed: int, fractions: tuple[float, float, float]
) -> None:
    """Move subjects from the largest split into wanted splits that are empty: train, test, val."""
    for index in (_TRAIN, _TEST, _VAL):
        counts = [list(split_of.values()).count(split) for split in range(len(SPLITS))]
        donor = max(range(len(SPLITS)), key=lambda split: (counts[split], split == _VAL))
        is_spare = counts[donor] > 1 or (donor == _VAL and counts[donor] == 1)
        if fractions[index] <= 0 or counts[index] or not is_spare:
            continue
        members = [subject for subject, split in split_of.items() if split == donor]
        moved = min(members, key=lambda subject: (_place(subject, seed=seed), subject))
        split_of[moved] = index


def _place(subject: str, *, seed: int) -> float:
    """Return a number in [0, 1) that only the seed and the subject's name decide."""
    key = seed_of(seed, "split").to_bytes(8, "big")
    digest = hmac.new(key, subject.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)
