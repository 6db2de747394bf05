"""A Merkle tree over the entries of a log: one hash for all of them, and short proofs about it.

The tree of RFC 6962, section 2.1; proofs are verified as in RFC 9162, section 2.1. Entries are only
ever added, and an entry's index counts from 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hospitium.errors import TrustError

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without entries."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry: SHA-256 of 0x00 and its bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 of 0x01 and the hashes of its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """The hashes of a log's entries, in the order in which they were added.

    Every whole subtree's hash is kept: 64 bytes an entry; a root or a proof takes some log2(n)**2
    steps.
    """

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self._levels[0])

    def append(self, hash_: bytes) -> None:
        """Add the `leaf_hash` of the next entry."""
        self._levels[0].append(hash_)
        for height, level in enumerate(self._levels):
            if len(level) % 2:
                return
            if height + 1 == len(self._levels):
                self._levels.append([])
            self._levels[height + 1].append(node_hash(level[-2], level[-1]))

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first ``size`` entries; None: of all.

        Raises:
            TrustError: There are fewer (``rollback``).
        """
        last = self.size if size is None else size
        self._require(0, last)
        return self._subtree(0, last) if last else EMPTY_ROOT

    def root_with(self, hash_: bytes) -> bytes:
        """Return what the root is with one entry more; it is not added."""
        found = hash_
        for level in self._levels:
            if len(level) % 2:
                found = node_hash(level[-1], found)
        return found

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Return what proves that an entry is in the tree of ``size`` entries; None: in this one.

        Raises:
            TrustError: There are fewer entries, or none of this index (``rollback``).
        """
        last = self.size if size is None else size
        self._require(index + 1, last)
        return self._path(index, 0, last)

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """Return what proves that the tree of ``new`` entries begins with that of ``old``.

        Raises:
            TrustError: There are fewer entries, or ``old`` is more than ``new`` (``rollback``).
        """
        last = self.size if new is None else new
        self._require(old, last)
        return self._subproof(old, 0, last, is_whole=True) if 0 < old < last else []

    def _require(self, old: int, new: int) -> None:
        if not 0 <= old <= new <= self.size:
            raise TrustError(
                "rollback",
                f"A log of {self.size} entries was asked about {old} and {new}: there is no such "
                "tree.",
            )

    def _subtree(self, first: int, last: int) -> bytes:
        """Return the hash over the entries from ``first`` to before ``last``; at least one."""
        size = last - first
        if size & (size - 1) == 0 and first % size == 0:
            height = size.bit_length() - 1
            return self._levels[height][first >> height]
        middle = first + _split(size)
        return node_hash(self._subtree(first, middle), self._subtree(middle, last))

    def _path(self, index: int, first: int, last: int) -> list[bytes]:
        """Return PATH of RFC 6962, section 2.1.1, from the leaf upwards."""
        if last - first == 1:
            return []
        middle = first + _split(last - first)
        if index < middle:
            return [*self._path(index, first, middle), self._subtree(middle, last)]
        return [*self._path(index, middle, last), self._subtree(first, middle)]

    def _subproof(self, old: int, first: int, last: int, *, is_whole: bool) -> list[bytes]:
        """Return SUBPROOF of RFC 6962, section 2.1.2."""
        if old == last:
            return [] if is_whole else [self._subtree(first, last)]
        middle = first + _split(last - first)
        if old <= middle:
            below = self._subproof(old, first, middle, is_whole=is_whole)
            return [*below, self._subtree(middle, last)]
        below = self._subproof(old, middle, last, is_whole=False)
        return [*below, self._subtree(first, middle)]


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if the entry of this hash is the one of this index in the tree of this root.

    RFC 9162, section 2.1.3.2.

    Args:
        leaf: The `leaf_hash` of the entry.
        index: Its place, from 0.
        size: Of the tree.
        root: Of the tree.
        proof: From `MerkleTree.inclusion_proof`.

    Raises:
        TrustError: It is not (``fork``).
    """
    node, last, found = index, size - 1, leaf
    is_valid = 0 <= index < size
    for other in proof if is_valid else ():
        if last == 0:
            is_valid = False
            break
        if node % 2 or node == last:
            found = node_hash(other, found)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, other)
        node, last = node >> 1, last >> 1
    if not is_valid or last != 0 or found != root:
        raise TrustError(
            "fork",
            f"Entry {index} is not in the log of {size} entries that was signed: what was shown is "
            "not what was logged. Keep both as evidence, and tell the other side.",
        )


def verify_consistency(
    *, old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if the log of ``new`` entries begins with exactly the ``old`` entries seen before.

    RFC 9162, section 2.1.4.2. Every log begins with the empty one.

    Raises:
        TrustError: It is smaller (``rollback``), or holds something else in their place (``fork``).
    """
    if new < old:
        raise TrustError(
            "rollback",
            f"A log of {new} entries was shown where one of {old} was seen before: entries were "
            "taken away. Keep both as evidence, and tell the other side.",
        )
    if not _is_consistent(old, new, old_root, new_root, proof):
        raise TrustError(
            "fork",
            f"A log of {new} entries does not begin with the {old} that were seen before: its "
            "history was rewritten, or it is shown differently to different sites. Keep both as "
            "evidence, and tell the other side.",
        )


def _is_consistent(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    node, last = old - 1, new - 1
    while node % 2:
        node, last = node >> 1, last >> 1
    path = list(proof) if node else [old_root, *proof]
    if not path:
        return False
    first = second = path[0]
    for other in path[1:]:
        if last == 0:
            return False
        if node % 2 or node == last:
            first, second = node_hash(other, first), node_hash(other, second)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, other)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(size: int) -> int:
    """Return the largest power of two below ``size``, which is 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)
