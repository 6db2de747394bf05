"""Deals whole subjects out to simulated sites: by shares first, then repaired to the minimums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.cases import SPLITS, Cases, Split

Counts: TypeAlias = npt.NDArray[np.int64]
Shares: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The least number of cases that every site must get: of one class, or of all in a split."""

    split: Split
    label: int | None
    least: int

    def of(self, counts: Counts) -> Counts:
        """Count these cases along the last two axes ``(split, class)``."""
        in_split = counts[..., SPLITS.index(self.split), :]
        if self.label is None:
            return np.asarray(in_split.sum(axis=-1), dtype=np.int64)
        return np.asarray(in_split[..., self.label], dtype=np.int64)


def count_subjects(cases: Cases) -> tuple[Counts, Counts]:
    """Return the subject of each case, and cases per ``(subject, split, class)``.

    Subjects are numbered in the order of their sorted names.
    """
    names, subject_of = np.unique(cases.subjects, return_inverse=True)
    counts = np.zeros((len(names), len(SPLITS), len(cases.classes)), dtype=np.int64)
    np.add.at(counts, (subject_of, cases.splits, cases.labels), 1)
    return np.asarray(subject_of, dtype=np.int64), counts


def deal(counts: Counts, *, shares: Shares, draw: np.random.Generator) -> Counts:
    """Return the site of each subject, so that each site gets its share of every split and class.

    A subject with several cases is dealt by the split and class of most of them.

    Args:
        counts: Cases per ``(subject, split, class)``.
        shares: Per ``(site, class)``; each column sums to 1.
        draw: Shuffles the subjects.
    """
    num_sites, num_classes = shares.shape
    kind = counts.reshape(len(counts), -1).argmax(axis=1)
    sites = np.zeros(len(counts), dtype=np.int64)
    owed = np.zeros(num_sites)
    for column in range(counts[0].size if len(counts) else 0):
        members = draw.permutation(np.flatnonzero(kind == column))
        owed += shares[:, column % num_classes] * len(members)
        given = _round_to(owed, total=len(members))
        owed -= given
        sites[members] = np.repeat(np.arange(num_sites), given)
    return sites


def repair(
    counts: Counts,
    sites: Counts,
    *,
    minimums: Sequence[Minimum],
    num_sites: int,
    draw: np.random.Generator,
) -> Counts:
    """Move subjects until every site has its minimums, as far as moves can.

    A subject moves from the site that has most to spare of what another lacks, and never so that
    the giver comes to lack something itself: every move brings the sites nearer to the minimums,
    so the search ends. Rich sites stay rich; only what is missing is moved.

    Returns:
        The site of each subject; ``lacking`` tells what is still missing.
    """
    if not minimums:
        return sites
    sites = sites.copy()
    wanted = np.array([minimum.least for minimum in minimums])
    worth = np.stack([minimum.of(counts) for minimum in minimums], axis=1)
    has = np.zeros((num_sites, len(minimums)), dtype=np.int64)
    np.add.at(has, sites, worth)
    order = draw.permutation(len(sites))
    given_up = np.zeros(has.shape, dtype=bool)
    while True:
        missing = np.where(given_up, 0, np.clip(wanted - has, 0, None))
        if not missing.any():
            return sites
        taker, what = np.unravel_index(int(missing.argmax()), missing.shape)
        subject = _spare(worth, sites, has, wanted, taker=int(taker), what=int(what), order=order)
        if subject is None:
            given_up[taker, what] = True
            continue
        has[sites[subject]] -= worth[subject]
        has[taker] += worth[subject]
        sites[subject] = taker


def lacking(
    counts: Counts, sites: Counts, *, minimums: Sequence[Minimum], num_sites: int
) -> list[tuple[Minimum, int]]:
    """Return the minimums that some site misses, each with the least number that a site has."""
    has = np.zeros((num_sites, *counts.shape[1:]), dtype=np.int64)
    np.add.at(has, sites, counts)
    found = [(minimum, int(minimum.of(has).min())) for minimum in minimums]
    return [(minimum, number) for minimum, number in found if number < minimum.least]


def _spare(
    worth: Counts,
    sites: Counts,
    has: Counts,
    wanted: Counts,
    *,
    taker: int,
    what: int,
    order: Counts,
) -> int | None:
    """Return a subject that helps ``taker`` with ``what`` and whose site can do without it."""
    lacks = np.clip(wanted - has, 0, None)
    for giver in np.argsort(-has[:, what], kind="stable"):
        if giver == taker:
            continue
        members = order[sites[order] == giver]
        members = members[worth[members, what] > 0]
        after = np.clip(wanted - (has[giver] - worth[members]), 0, None)
        able = members[(after <= lacks[giver]).all(axis=1)]
        if len(able):
            return int(able[worth[able].sum(axis=1).argmin()])
    return None


def _round_to(parts: Shares, *, total: int) -> Counts:
    """Round parts to whole numbers >= 0 with this sum, by largest remainder."""
    whole = np.clip(np.floor(parts), 0, None).astype(np.int64)
    rest = total - int(whole.sum())
    by_remainder = np.argsort(whole - parts, kind="stable")
    if rest >= 0:
        whole += rest // len(parts)
        whole[by_remainder[: rest % len(parts)]] += 1
        return whole
    for site in by_remainder[::-1]:  # clipping at 0 may have given out one case too many
        taken = min(-rest, int(whole[site]))
        whole[site] -= taken
        rest += taken
    return whole
