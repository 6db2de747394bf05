import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.imaging.instance import SkipError
from hospitium.imaging.values import Chain, Lookup, physical_values, stored_values


def _slow(word: int, *, bits_stored: int, high_bit: int, is_signed: bool) -> int:
    value = (word >> (high_bit + 1 - bits_stored)) & ((1 << bits_stored) - 1)
    return value - (1 << bits_stored) if is_signed and value >> (bits_stored - 1) else value


@given(st.data(), st.sampled_from([8, 16, 32]), st.booleans(), st.booleans())
def test_stored_values_are_those_of_a_plain_loop_over_bits(data, size, is_signed, is_big):
    high_bit = data.draw(st.integers(0, size - 1))
    bits_stored = data.draw(st.integers(1, high_bit + 1))
    words = data.draw(st.lists(st.integers(0, (1 << size) - 1), min_size=1, max_size=8))
    array = np.array(words, dtype=f"{'>' if is_big else '<'}u{size // 8}")
    how = {"bits_stored": bits_stored, "high_bit": high_bit, "is_signed": is_signed}
    found = stored_values(array, **how)
    assert found.dtype.isnative
    assert found.tolist() == [_slow(word, **how) for word in words]


@given(st.integers(1, 16), st.booleans(), st.floats(-8, 8).filter(lambda x: abs(x) > 0.01))
def test_the_range_is_what_the_stored_bits_can_give(bits, is_signed, slope):
    low = -(1 << (bits - 1)) if is_signed else 0
    stored = np.arange(low, low + (1 << bits))
    chain = Chain(bits_stored=bits, is_signed=is_signed, slope=slope, intercept=-3.0)
    values, ends, valid = physical_values(stored, chain)
    np.testing.assert_allclose((values.min(), values.max()), ends, rtol=1e-6)
    assert valid is None


def test_inversion_of_unsigned_bits_is_their_complement():
    chain = Chain(bits_stored=10, is_signed=False, is_inverted=True)
    values, ends, _ = physical_values(np.array([0, 44, 1023], np.uint16), chain)
    assert values.tolist() == [1023.0, 979.0, 0.0]
    assert ends == (0.0, 1023.0)


def test_inversion_comes_after_rescale_and_keeps_the_range():
    chain = Chain(bits_stored=8, is_signed=False, slope=2.0, intercept=-10.0, is_inverted=True)
    values, ends, _ = physical_values(np.array([0, 255], np.uint8), chain)
    assert values.tolist() == [500.0, -10.0]
    assert ends == (-10.0, 500.0)


def test_a_lookup_table_is_clamped_at_both_ends():
    lookup = Lookup(first=2, entries=np.array([10.0, 30.0, 20.0]))
    chain = Chain(bits_stored=4, is_signed=False, lookup=lookup)
    values, ends, _ = physical_values(np.arange(8, dtype=np.uint8), chain)
    assert values.tolist() == [10, 10, 10, 30, 20, 20, 20, 20]
    assert ends == (10.0, 30.0)


def test_padding_is_found_on_stored_values_before_rescale():
    chain = Chain(bits_stored=16, is_signed=True, intercept=100.0, padding=(-2000, -1990))
    _, _, valid = physical_values(np.array([-2000, -1990, -1989, 5], np.int16), chain)
    assert valid.tolist() == [False, False, True, True]


def test_below_air_nothing_of_a_ct_is_valid():
    chain = Chain(bits_stored=16, is_signed=True, is_ct=True)
    _, _, valid = physical_values(np.array([-1025, -1024, 40], np.int16), chain)
    assert valid.tolist() == [False, True, True]


@pytest.mark.parametrize(("slope", "intercept"), [(1e38, 0.0), (-1e308, 0.0), (1.0, 1e300)])
def test_a_rescale_beyond_all_measurements_is_refused_and_makes_no_infinity(slope, intercept):
    chain = Chain(bits_stored=12, is_signed=False, slope=slope, intercept=intercept)
    with pytest.raises(SkipError, match="values from"):
        physical_values(np.arange(4, dtype=np.uint16), chain)
