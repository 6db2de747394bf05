"""The tree against its definition, written down slowly, and against published vectors."""

import hashlib
import itertools

import pytest

from hospitium.errors import TrustError
from hospitium.wire.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

MOST = 40
ENTRIES = [f"entry {n}".encode() for n in range(MOST)]

VECTORS = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""Roots of the first 0 to 8 of VECTORS, as Certificate Transparency's reference code has them."""


def slow_root(entries):
    """MTH of RFC 6962, section 2.1, word for word."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = max(1 << bit for bit in range(8) if 1 << bit < len(entries))
    left, right = slow_root(entries[:k]), slow_root(entries[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def slow_path(m, entries):
    """PATH of RFC 6962, section 2.1.1, word for word."""
    if len(entries) == 1:
        return []
    k = max(1 << bit for bit in range(8) if 1 << bit < len(entries))
    if m < k:
        return [*slow_path(m, entries[:k]), slow_root(entries[k:])]
    return [*slow_path(m - k, entries[k:]), slow_root(entries[:k])]


def slow_subproof(m, entries, *, whole):
    """SUBPROOF of RFC 6962, section 2.1.2, word for word."""
    if m == len(entries):
        return [] if whole else [slow_root(entries)]
    k = max(1 << bit for bit in range(8) if 1 << bit < len(entries))
    if m <= k:
        return [*slow_subproof(m, entries[:k], whole=whole), slow_root(entries[k:])]
    return [*slow_subproof(m - k, entries[k:], whole=False), slow_root(entries[:k])]


def tree_of(entries):
    tree = MerkleTree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


TREE = tree_of(ENTRIES)
PAIRS = [(old, new) for new in range(MOST + 1) for old in range(new + 1)]


def test_the_published_roots_are_reached():
    assert [tree_of(VECTORS[:n]).root().hex() for n in range(9)] == list(ROOTS)


def test_published_proofs_are_reached():
    """From the tests of the reference code of RFC 6962 (paths 0 of 8 and 5 of 8; 6 to 8)."""
    tree = tree_of(VECTORS)
    nodes = [leaf_hash(entry) for entry in VECTORS]
    pair = [node_hash(nodes[n], nodes[n + 1]) for n in range(0, 8, 2)]
    assert tree.inclusion_proof(0) == [nodes[1], pair[1], node_hash(pair[2], pair[3])]
    assert [item.hex() for item in tree.inclusion_proof(5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [item.hex() for item in tree.consistency_proof(6)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_every_root_is_that_of_the_definition():
    assert [TREE.root(n) for n in range(MOST + 1)] == [
        slow_root(ENTRIES[:n]) for n in range(MOST + 1)
    ]
    assert MerkleTree().root() == EMPTY_ROOT


def test_a_root_is_told_before_its_entry_is_added():
    tree = MerkleTree()
    for n, entry in enumerate(ENTRIES):
        assert tree.root_with(leaf_hash(entry)) == TREE.root(n + 1)
        tree.append(leaf_hash(entry))


def test_every_inclusion_proof_is_that_of_the_definition_and_holds():
    for size in range(1, MOST + 1):
        for index in range(size):
            proof = TREE.inclusion_proof(index, size)
            assert proof == slow_path(index, ENTRIES[:size])
            verify_inclusion(
                leaf_hash(ENTRIES[index]),
                index=index,
                size=size,
                root=TREE.root(size),
                proof=proof,
            )


@pytest.mark.parametrize("size", range(1, 18))
def test_no_proof_puts_an_entry_at_another_place_or_another_entry_at_its_place(size):
    for index, claimed in itertools.product(range(size), range(-1, size + 1)):
        proof, root = TREE.inclusion_proof(index, size), TREE.root(size)
        for entry in (index, (index + 1) % MOST):
            if (entry, claimed) != (index, index):
                with pytest.raises(TrustError, match="evidence"):
                    verify_inclusion(
                        leaf_hash(ENTRIES[entry]), index=claimed, size=size, root=root, proof=proof
                    )


def test_every_consistency_proof_is_that_of_the_definition_and_holds():
    for old, new in PAIRS:
        proof = TREE.consistency_proof(old, new)
        if 0 < old < new:
            assert proof == slow_subproof(old, ENTRIES[:new], whole=True)
        verify_consistency(
            old=old, new=new, old_root=TREE.root(old), new_root=TREE.root(new), proof=proof
        )


def test_no_consistency_proof_holds_for_another_history():
    other = tree_of([b"another", *ENTRIES[1:]])
    for old, new in PAIRS:
        if old == 0:
            continue
        for seen, shown in ((TREE, other), (other, TREE)):
            for proof in (seen.consistency_proof(old, new), shown.consistency_proof(old, new)):
                with pytest.raises(TrustError) as caught:
                    verify_consistency(
                        old=old,
                        new=new,
                        old_root=seen.root(old),
                        new_root=shown.root(new),
                        proof=proof,
                    )
                assert caught.value.reason == "fork"


def test_a_proof_that_was_cut_lengthened_or_changed_does_not_hold():
    for old, new in ((1, 2), (3, 7), (6, 8), (7, 16), (8, 16), (13, 40)):
        proof = TREE.consistency_proof(old, new)
        changed = [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]]
        for bad in (proof[:-1], [*proof, proof[-1]], changed, []):
            with pytest.raises(TrustError):
                verify_consistency(
                    old=old,
                    new=new,
                    old_root=TREE.root(old),
                    new_root=TREE.root(new),
                    proof=bad,
                )


def test_a_log_that_shrank_is_told_from_one_that_was_rewritten():
    with pytest.raises(TrustError) as caught:
        verify_consistency(old=5, new=4, old_root=TREE.root(5), new_root=TREE.root(4), proof=[])
    assert caught.value.reason == "rollback"


@pytest.mark.parametrize(
    "ask",
    [
        lambda: TREE.root(MOST + 1),
        lambda: TREE.inclusion_proof(MOST),
        lambda: TREE.inclusion_proof(3, 3),
        lambda: TREE.consistency_proof(5, 4),
        lambda: TREE.consistency_proof(-1, 4),
    ],
)
def test_a_tree_that_there_is_not_has_no_root_and_no_proof(ask):
    with pytest.raises(TrustError, match="there is no such tree"):
        ask()


def test_an_entry_and_an_inner_node_never_have_the_same_hash():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)
