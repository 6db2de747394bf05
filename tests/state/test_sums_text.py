import json

from hypothesis import given
from hypothesis import strategies as st

from hospitium.state.sums_text import read_sums, sums_text

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
COUNTS = st.integers(min_value=0, max_value=1 << 53)
HISTOGRAMS = st.lists(st.one_of(st.just(0), st.just(0), st.just(0), COUNTS), max_size=60)


@given(st.dictionaries(NAMES, HISTOGRAMS.map(tuple), max_size=5))
def test_what_is_read_is_what_was_written(sums):
    assert read_sums(sums_text(sums)) == sums


@given(st.dictionaries(NAMES, HISTOGRAMS.map(tuple), max_size=5))
def test_the_ledgers_of_earlier_versions_are_read(sums):
    assert read_sums(json.dumps(sums, sort_keys=True)) == sums


@given(st.dictionaries(NAMES, HISTOGRAMS.map(tuple), max_size=5))
def test_the_order_of_names_changes_no_byte(sums):
    assert sums_text(sums) == sums_text(dict(reversed(sums.items())))


def test_a_histogram_that_is_nearly_empty_takes_hardly_any_room():
    assert len(sums_text({"score": (0,) * 2000 + (3, 1) + (0,) * 2000})) < 60
