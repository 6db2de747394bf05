from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium import algorithms
from hospitium.errors import UpdateError
from hospitium.plan import Plan
from hospitium.plan.schema import AlgorithmSection
from hospitium.testing.fakes import first_params, least_squares_sites
from hospitium.types import Seat
from hospitium.wire.blob import digest_of

SITES = least_squares_sites(num_sites=6, num_features=7)
ALGORITHM = algorithms.build(
    Plan(algorithm=AlgorithmSection(ema=0.9)),
    run_id="r",
    seats=[Seat(site_id=site.site_id, num_cases=site.num_cases) for site in SITES],
    first_params=lambda: first_params(7),
)
TASK = ALGORITHM.task(ALGORITHM.init(), round_number=1)
UPDATES = [site(TASK) for site in SITES]


def spoilt(update, how):
    """Return an update that must be refused, in one of the ways that are found late."""
    w = update.delta["w"].copy()
    if how == "nan":
        w[-1] = np.nan
    if how == "long":
        w *= 1e9
    changed = {"delta": {**update.delta, "w": w}}
    if how == "stale":
        changed = {"round_number": update.round_number - 1}
    return replace(update, **changed)


def after(updates):
    """Return the state after one round in which these updates arrive in this order."""
    aggregate = ALGORITHM.aggregate(TASK)
    for update in updates:
        aggregate.add(update)
    return ALGORITHM.step(ALGORITHM.init(), aggregate.result())


def assert_same_bits(left, right):
    assert left.memory == right.memory
    assert digest_of(left.params) == digest_of(right.params)
    assert digest_of(left.slots["ema"]) == digest_of(right.slots["ema"])


@settings(max_examples=100, deadline=None)
@given(st.permutations(UPDATES))
def test_any_order_of_arrival_ends_with_the_same_bits(updates):
    assert_same_bits(after(updates), after(UPDATES))


@settings(max_examples=150, deadline=None)
@given(
    st.permutations(range(6)),
    st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 5), st.sampled_from(["nan", "long", "stale", "twice"])
        ),
        max_size=6,
    ),
)
def test_refused_and_repeated_updates_in_between_change_no_bit(order, intruders):
    aggregate = ALGORITHM.aggregate(TASK)
    for place, index in enumerate(order):
        for at, who, how in intruders:
            is_second = who in order[:place]
            if at == place and (how != "twice" or is_second):
                with pytest.raises(UpdateError) as caught:
                    aggregate.add(spoilt(UPDATES[who], how))
                expected = {"nan": "non_finite", "long": "norm", "stale": "round"}.get(how)
                conflict = is_second and how != "stale"
                assert caught.value.reason == ("seat_conflict" if conflict else expected)
        aggregate.add(UPDATES[index])
    assert_same_bits(ALGORITHM.step(ALGORITHM.init(), aggregate.result()), after(UPDATES))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(range(6)), min_size=1), st.sampled_from(["nan", "long"]))
def test_to_add_and_be_refused_is_never_to_have_been_added(bad, how):
    good = [update for index, update in enumerate(UPDATES) if index not in bad]
    if not good:
        return
    aggregate = ALGORITHM.aggregate(TASK)
    for index, update in enumerate(UPDATES):
        if index in bad:
            with pytest.raises(UpdateError):
                aggregate.add(spoilt(update, how))
        else:
            aggregate.add(update)
    assert aggregate.num_sites == len(good)
    assert_same_bits(ALGORITHM.step(ALGORITHM.init(), aggregate.result()), after(good))
