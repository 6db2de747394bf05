import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.algorithms.weights import weights
from hospitium.privacy.exact_sum import WEIGHT_ONE
from hospitium.types import Seat


def weights_of(counts, *, exponent=1.0, max_share=0.5):
    seats = [Seat(site_id=f"s{k:03}", num_cases=count) for k, count in enumerate(counts)]
    return list(weights(seats, exponent=exponent, max_share=max_share).values())


def slow_weights(counts, *, exponent, max_share):
    """Return the weights by trying every cap from the largest count down."""
    counts = [max(1, count) for count in counts]
    allowed = max(max_share, 0.6 if len(counts) < 5 else 0.0, 1 / len(counts))
    for cap in range(max(counts), 0, -1):
        relative = [(min(count, cap) / cap) ** exponent for count in counts]
        if max(relative) / sum(relative) <= allowed + 1e-12:
            break
    floored = [max(share, 1 / (4 * len(counts))) for share in relative]
    return [max(1, int(WEIGHT_ONE * share + 0.5)) for share in floored]


COUNTS = st.lists(st.integers(0, 400), min_size=1, max_size=12)
EXPONENTS = st.sampled_from([0.0, 0.25, 0.5, 1.0])
SHARES = st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0])


@settings(max_examples=300, deadline=None)
@given(COUNTS, EXPONENTS, SHARES)
def test_weights_equal_those_of_a_slow_search_over_every_cap(counts, exponent, max_share):
    given_ = {"exponent": exponent, "max_share": max_share}
    assert weights_of(counts, **given_) == slow_weights(counts, **given_)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=30), EXPONENTS, SHARES)
def test_no_site_holds_more_than_its_share_or_less_than_the_floor(counts, exponent, max_share):
    found = weights_of(counts, exponent=exponent, max_share=max_share)
    allowed = max(max_share, 0.6 if len(counts) < 5 else 0.0, 1 / len(counts))
    assert max(found) <= sum(found) * allowed + len(found)  # each was rounded by at most a half
    assert max(found) <= WEIGHT_ONE
    assert min(found) >= WEIGHT_ONE / (4 * len(counts)) - 1
    ranked = [weight for _, weight in sorted(zip(counts, found, strict=True))]
    assert ranked == sorted(ranked)


@pytest.mark.parametrize(
    ("counts", "share"), [([10**9, 1, 1, 1], 0.6), ([10**9, 300, 300, 200, 200], 0.5)]
)
def test_a_giant_holds_six_tenths_below_five_sites_and_half_from_five_on(counts, share):
    found = weights_of(counts)
    assert found[0] / sum(found) == pytest.approx(share, abs=0.1)
    assert found[0] / sum(found) <= share


def test_two_sites_of_unlike_size_hold_three_fifths_and_two():
    found = weights_of([900, 100])
    assert found[0] / sum(found) == pytest.approx(0.6, abs=1e-5)


def test_without_a_cap_weights_are_the_numbers_of_cases():
    found = weights_of([64, 32, 16, 48], max_share=1.0)
    assert [weight / WEIGHT_ONE for weight in found] == [1.0, 0.5, 0.25, 0.75]


def test_an_exponent_of_zero_gives_equal_weights_and_one_site_gets_one():
    assert set(weights_of([1, 50, 1000], exponent=0.0)) == {WEIGHT_ONE}
    assert weights_of([17]) == [WEIGHT_ONE]


def test_a_site_that_enrolled_without_cases_has_the_floor():
    found = weights_of([0, 100, 100, 100, 100])
    assert found[0] == round(WEIGHT_ONE / 20)
