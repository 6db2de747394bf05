"""Small counts, and whatever would give them back, stay hidden."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import UsageError
from hospitium.imaging.suppression import HIDDEN, Suppression

TABLES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 60), min_size=1)


def test_a_site_may_raise_the_least_count_but_never_lower_it():
    assert Suppression(least=20).count(19) == "< 20"
    with pytest.raises(UsageError, match="never lower"):
        Suppression(least=9)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100))
def test_a_count_is_shown_only_if_it_is_none_or_ten_and_more(count):
    assert Suppression().count(count) == (count if count == 0 or count >= 10 else "< 10")


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_no_small_cell_can_be_worked_out_from_the_rest_of_its_table(cells):
    """By brute force: for each value a small cell may have, some table looks just the same."""
    shown, total = Suppression().table(cells)
    small = [name for name, value in shown.items() if value == "< 10"]
    assert small == [name for name, count in cells.items() if 0 < count < 10]
    assert all(shown[n] in (cells[n], HIDDEN) for n in cells if n not in small)
    if isinstance(total, int):
        assert total == sum(cells.values())
        num_hidden = sum(value == HIDDEN for value in shown.values())
        rest = total - sum(value for value in shown.values() if isinstance(value, int))
        for name in small:
            others = len(small) - 1
            for value in range(1, 10):
                left = rest - value
                assert left >= others + 10 * num_hidden, (name, value)
                assert num_hidden or left <= 9 * others, (name, value)


def test_every_hidden_cell_of_a_small_table_keeps_its_whole_range():
    for counts in product((0, 1, 9, 10, 15), repeat=3):
        cells = dict(zip("abc", counts, strict=True))
        shown, total = Suppression().table(cells)
        if not isinstance(total, int) or "< 10" not in shown.values():
            continue
        twins = [
            dict(zip("abc", other, strict=True))
            for other in product(range(40), repeat=3)
            if sum(other) == total
            and all(
                (shown[n] == HIDDEN and o >= 10)
                or (shown[n] == "< 10" and 0 < o < 10)
                or shown[n] == o
                for n, o in zip("abc", other, strict=True)
            )
        ]
        for name in (n for n, value in shown.items() if value == "< 10"):
            assert {twin[name] for twin in twins} == set(range(1, 10)), cells


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_a_share_is_a_multiple_of_five_and_never_of_a_handful(part, rest):
    share = Suppression().share(part, part + rest)
    if 0 < part < 10 or 0 < rest < 10 or part + rest < 10:
        assert share == HIDDEN
    else:
        number = int(share.removesuffix(" %"))
        assert number % 5 == 0
        assert abs(number - 100 * part / (part + rest)) <= 2.5


@settings(max_examples=100, deadline=None)
@given(st.integers(10, 500), st.integers(10, 40))
def test_a_rounded_count_is_near_and_never_small_and_words_stay(count, least):
    rule = Suppression(least=least)
    rounded = rule.rounded(max(count, least))
    assert rounded % least == 0 and rounded >= least
    assert abs(rounded - max(count, least)) <= least / 2
    assert rule.rounded(0) == 0 and rule.rounded(HIDDEN) == HIDDEN
