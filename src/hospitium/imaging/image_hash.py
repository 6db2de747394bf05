"""The 64-bit difference hash of a picture, and pictures whose hashes are nearly equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

NEAR = 2
"""Pictures whose hashes differ in at most so many of 64 bits are looked at as near duplicates."""

_ROWS, _COLUMNS = 8, 9
_LEAST_STEP = 0.01
_BLOCKS = ((0, 22), (22, 21), (43, 21))
"""First bit and width of the blocks: with 3 of them, 2 wrong bits leave one block untouched."""

_MAX_PAIRED = 8192
_MASKS = np.array(
    [0]
    + [1 << bit for bit in range(64)]
    + [(1 << one) | (1 << other) for one, other in combinations(range(64), 2)],
    dtype=np.uint64,
)


def difference_hash(picture: npt.NDArray[np.float32]) -> int:
    """Return 64 bits that say where an 8 x 9 average of a picture rises from left to right.

    Args:
        picture: ``(row, column)`` in [0, 1]. A rise counts from 0.01, so that noise in an even
            background does not; the hash of an even picture is 0.
    """
    small = averaged(averaged(picture, _ROWS).T, _COLUMNS).T
    rises = small[:, 1:] > small[:, :-1] + _LEAST_STEP
    return int(np.packbits(rises.ravel()).view(">u8")[0])


def averaged(lines: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Return the means of ``count`` equal stretches of the first axis, cut lines in part.

    Meant for small pictures. With a larger ``count`` lines are repeated.
    """
    means: npt.NDArray[np.float32] = _weights(len(lines), count) @ lines
    return means


@lru_cache(maxsize=64)
def _weights(length: int, count: int) -> npt.NDArray[np.float32]:
    """Return the share ``(count, length)`` that each line has in each mean."""
    edges = np.linspace(0.0, length, count + 1)
    line = np.arange(length)
    upper = np.minimum(edges[1:, np.newaxis], line + 1)
    lower = np.maximum(edges[:-1, np.newaxis], line)
    return np.asarray(np.clip(upper - lower, 0, None) * (count / length), dtype=np.float32)


def near_pairs(hashes: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield pairs of places, ``(pair, 2)``, whose different hashes differ in 1 or 2 bits.

    Each pair comes once, the smaller place first. Equal hashes are not paired: group them before.
    Candidates share one of three blocks of bits (the pigeonhole principle). A block that very many
    share, as with pictures that are mostly black, is searched by the 2,080 ways to change one or
    two bits instead, so that work grows in proportion to the number of hashes.

    Args:
        hashes: Different numbers of 64 bits.
    """
    codes = np.array(hashes, dtype=np.uint64)
    for number, (first, width) in enumerate(_BLOCKS):
        block = (codes >> np.uint64(first)) & np.uint64((1 << width) - 1)
        for members in _groups(block):
            yield from _near_within(codes, members, number)


def _near_within(
    codes: npt.NDArray[np.uint64], members: npt.NDArray[np.int64], number: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the near pairs among hashes that share a block, if no earlier block has them too."""
    search = _by_pairs if len(members) <= _MAX_PAIRED else _by_masks
    for pairs in search(codes, members):
        difference = codes[pairs[:, 0]] ^ codes[pairs[:, 1]]
        is_new = np.ones(len(pairs), dtype=np.bool_)
        for first, width in _BLOCKS[:number]:
            is_new &= (difference >> np.uint64(first)) & np.uint64((1 << width) - 1) != 0
        if is_new.any():
            yield np.sort(pairs[is_new], axis=1)


def _by_pairs(
    codes: npt.NDArray[np.uint64], members: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.int64]]:
    """Compare each member with all that come after it."""
    for at, one in enumerate(members[:-1], start=1):
        distance = np.bitwise_count(codes[members[at:]] ^ codes[one])
        others = members[at:][distance <= NEAR]
        if len(others):
            yield np.stack([np.full_like(others, one), others], axis=1)


def _by_masks(
    codes: npt.NDArray[np.uint64], members: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.int64]]:
    """Look each member up with one or two of its bits changed."""
    order = members[np.argsort(codes[members])]
    known = codes[order]
    for mask in _MASKS[1:]:
        wanted = known ^ mask
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        is_pair = (known[at] == wanted) & (known < wanted)
        if is_pair.any():
            yield np.stack([order[is_pair], order[at[is_pair]]], axis=1)


def _groups(keys: npt.NDArray[np.uint64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the places of each key that stands at two places or more."""
    order = np.argsort(keys, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        if len(members) > 1:
            yield members.astype(np.int64)


def places_of(hashes: Sequence[int]) -> dict[int, list[int]]:
    """Return the places at which each hash stands."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, code in enumerate(hashes):
        places[code].append(place)
    return dict(places)
