"""Finds exact copies and near duplicates among the cases of a site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hospitium.imaging.cases import SPLITS
from hospitium.imaging.conformance.case_facts import CaseFacts
from hospitium.imaging.image_hash import near_pairs, places_of

LIKENESS = 8
"""Thumbnails of near duplicates differ by at most so many of 255 grey levels on average.

Radiographs are alike in outline: among the 5,827 different images of PneumoniaMNIST the hash alone
calls 3,867 pairs alike, with 28 % of all images in one; at a second look not one of them is.
"""

_MAX_PAIRS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What is alike.

    Attributes:
        exact: Cases of exactly equal pixels, at least two each, in the order of the cases.
        near: Pairs of cases that look alike, but are not equal.
        num_alike_by_hash: Pairs that the hash alone calls alike.
    """

    exact: tuple[tuple[CaseFacts, ...], ...]
    near: tuple[tuple[CaseFacts, CaseFacts], ...]
    num_alike_by_hash: int


def find_copies(cases: Sequence[CaseFacts]) -> Copies:
    """Return exact copies, and near duplicates: hashes within 2 bits, and thumbnails alike.

    Of cases that are exact copies only the first is compared with others. Work and memory grow in
    proportion to the number of cases, but for pairs, of which at most a million are looked at.
    """
    groups: defaultdict[str, list[CaseFacts]] = defaultdict(list)
    for case in cases:
        groups[case.digest].append(case)
    firsts = [group[0] for group in groups.values()]
    near: list[tuple[CaseFacts, CaseFacts]] = []
    num_alike = 0
    for one, other in _alike_by_hash(firsts):
        num_alike += 1
        if _look_alike(one, other):
            near.append((one, other))
        if num_alike >= _MAX_PAIRS:
            break
    return Copies(
        exact=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        near=tuple(near),
        num_alike_by_hash=num_alike,
    )


def across_splits(group: Sequence[CaseFacts]) -> tuple[str, ...]:
    """Return the splits that a group of cases stands in, in their usual order."""
    found = {case.split for case in group}
    return tuple(split for split in SPLITS if split in found)


def _alike_by_hash(firsts: Sequence[CaseFacts]) -> Iterator[tuple[CaseFacts, CaseFacts]]:
    """Yield pairs whose hashes are equal or differ in one or two bits."""
    places = places_of([case.hash for case in firsts])
    for members in places.values():
        for at, one in enumerate(members):
            for other in members[at + 1 :]:
                yield firsts[one], firsts[other]
    codes = list(places)
    for pairs in near_pairs(codes):
        for first, second in pairs.tolist():
            for one in places[codes[first]]:
                for other in places[codes[second]]:
                    yield firsts[one], firsts[other]


def _look_alike(one: CaseFacts, other: CaseFacts) -> bool:
    """Whether two thumbnails differ little; without thumbnails the hash decides alone."""
    if not one.thumbnail or not other.thumbnail:
        return True
    pair = [np.frombuffer(case.thumbnail, np.uint8).astype(np.int16) for case in (one, other)]
    return float(np.abs(pair[0] - pair[1]).mean()) <= LIKENESS
