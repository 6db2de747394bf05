"""Near duplicates are found, all of them, without comparing everything with everything."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.imaging import image_hash
from hospitium.imaging.image_hash import averaged, difference_hash, near_pairs

CODES = st.lists(st.integers(0, (1 << 64) - 1), unique=True, max_size=30)


def pairs_of(codes):
    return {tuple(pair) for pairs in near_pairs(codes) for pair in pairs.tolist()}


def slow_pairs(codes):
    return {
        (one, other)
        for one in range(len(codes))
        for other in range(one + 1, len(codes))
        if (codes[one] ^ codes[other]).bit_count() <= 2
    }


@settings(max_examples=60, deadline=None)
@given(CODES, st.lists(st.tuples(st.integers(0, 29), st.integers(0, 63), st.integers(0, 63))))
def test_pairs_are_those_of_a_plain_double_loop(codes, flips):
    for place, one, other in flips:
        if place < len(codes):
            codes.append(codes[place] ^ (1 << one) ^ (1 << other))
    codes = list(dict.fromkeys(codes))
    assert pairs_of(codes) == slow_pairs(codes)


def test_each_pair_comes_once():
    draw = np.random.default_rng(1)
    base = [int(code) for code in draw.integers(0, 1 << 63, 200)]
    codes = list(dict.fromkeys(base + [code ^ 1 for code in base] + [c ^ 3 << 40 for c in base]))
    found = [tuple(pair) for pairs in near_pairs(codes) for pair in pairs.tolist()]
    assert len(found) == len(set(found)) >= 400


def test_hashes_that_share_most_bits_are_not_all_compared_with_each_other(monkeypatch):
    """As with pictures that are mostly black: one block of bits is the same in all of them."""
    by_pairs, sizes = image_hash._by_pairs, []

    def counted(codes, members):
        sizes.append(len(members))
        return by_pairs(codes, members)

    monkeypatch.setattr(image_hash, "_MAX_PAIRED", 500)
    monkeypatch.setattr(image_hash, "_by_pairs", counted)
    draw = np.random.default_rng(2)
    codes = list(dict.fromkeys(int(code) << 22 for code in draw.integers(0, 1 << 40, 4000)))
    codes += [codes[7] ^ (1 << 50), codes[9] ^ (1 << 60) ^ (1 << 61)]
    found = pairs_of(codes)
    assert 0 < max(sizes) <= 500
    assert {(7, len(codes) - 2), (9, len(codes) - 1)} <= found == slow_pairs_of(codes)


def slow_pairs_of(codes):
    array = np.array(codes, dtype=np.uint64)
    return {
        (one, one + 1 + int(other))
        for one in range(len(array))
        for other in np.flatnonzero(np.bitwise_count(array[one + 1 :] ^ array[one]) <= 2)
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5))
def test_averages_keep_the_mean_and_a_constant(count, length, seed):
    lines = np.random.default_rng(seed).random((length, 3)).astype(np.float32)
    means = averaged(lines, count)
    assert means.shape == (count, 3)
    assert np.allclose(means.mean(axis=0), lines.mean(axis=0), atol=1e-5)
    assert np.allclose(averaged(np.ones((length, 2), np.float32), count), 1, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_hash_survives_scaling_and_noise_in_an_even_background(seed):
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:64, 0:64] / 63
    picture = (0.5 + 0.5 * np.sin(3 * columns + 2 * rows)).astype(np.float32)
    even = np.full((64, 64), 0.3, np.float32) + draw.normal(0, 0.004, (64, 64)).astype(np.float32)
    twice = np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)
    assert (difference_hash(picture) ^ difference_hash(twice)).bit_count() <= 2
    assert difference_hash(even) == 0
