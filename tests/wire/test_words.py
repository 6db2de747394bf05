from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.wire.words import word, words


def test_there_are_2048_different_words_of_five_letters():
    every = [word(number) for number in range(2048)]
    assert len(set(every)) == 2048 and {len(one) for one in every} == {5}
    assert all(one.isascii() and one.islower() for one in every)


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0, max_value=2**66 - 1))
def test_six_words_say_the_first_66_bits(bits):
    every = [word(number) for number in range(2048)]
    found = words(f"{bits << 190:064x}")
    number = 0
    for one in found:
        number = number << 11 | every.index(one)
    assert number == bits and len(found) == 6
