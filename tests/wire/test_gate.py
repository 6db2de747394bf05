from dataclasses import replace

import numpy as np
import pytest

from hospitium.errors import UpdateError
from hospitium.types import Seat, Task, Update
from hospitium.wire.blob import manifest_of
from hospitium.wire.gate import MAX_SUM, REASONS, check_update

PARAMS = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)}
SEAT = Seat(site_id="oslo", num_cases=10)
TASK = Task(
    run_id="r",
    round_number=2,
    plan_digest="p",
    params=PARAMS,
    base_digest="d",
    max_norm=1.0,
)
GOOD = Update(
    run_id="r",
    round_number=2,
    site_id="oslo",
    plan_digest="p",
    base_digest="d",
    num_cases=10,
    delta=PARAMS,
    sums={"n": (3,)},
)


def check(update, *, task=TASK, seat=SEAT, sum_lengths=None):
    check_update(
        update, task=task, seat=seat, manifest=manifest_of(task.params), sum_lengths=sum_lengths
    )


def test_an_honest_update_passes():
    check(GOOD)
    check(GOOD, sum_lengths={"n": 1})
    check(replace(GOOD, delta={}), task=replace(TASK, purpose="score"))


WRONG = {
    "another run": ("plan", {"run_id": "s"}),
    "another plan": ("plan", {"plan_digest": "q"}),
    "the round before": ("round", {"round_number": 1}),
    "other params": ("base", {"base_digest": "e"}),
    "more cases than enrolled": ("weight", {"num_cases": 10**9}),
    "a negative count": ("weight", {"num_cases": -10}),
    "a count that is a float": ("weight", {"num_cases": 10.0}),
    "a count that is a bool": ("weight", {"num_cases": True}),
    "no params": ("header", {"delta": {}}),
    "a param too few": ("header", {"delta": {"w": PARAMS["w"]}}),
    "a param too many": ("header", {"delta": {**PARAMS, "x": PARAMS["b"]}}),
    "a wrong name": ("header", {"delta": {"w": PARAMS["w"], "B": PARAMS["b"]}}),
    "a wrong shape": ("header", {"delta": {**PARAMS, "w": np.zeros((3, 2), np.float32)}}),
    "a wrong dtype": ("header", {"delta": {**PARAMS, "b": np.zeros(2)}}),
    "a dtype that does not travel": ("header", {"delta": {**PARAMS, "b": np.zeros(2, "f2")}}),
    "a list for an array": ("header", {"delta": {**PARAMS, "b": [0.0, 0.0]}}),
    "a negative sum": ("fields", {"sums": {"n": (-3,)}}),
    "a float in a sum": ("fields", {"sums": {"n": (3.0,)}}),
    "a bool in a sum": ("fields", {"sums": {"n": (True,)}}),
    "a sum beyond 2^53": ("fields", {"sums": {"n": (MAX_SUM + 1,)}}),
    "a list for a tuple": ("fields", {"sums": {"n": [3]}}),
    "an endless sum": ("fields", {"sums": {"n": (0,) * ((1 << 16) + 1)}}),
    "too many sums": ("fields", {"sums": {str(number): (1,) for number in range(65)}}),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_update_is_refused_for_its_first_fault_by_a_reason_of_the_closed_list(what):
    reason, change = WRONG[what]
    with pytest.raises(UpdateError) as caught:
        check(replace(GOOD, **change))
    assert caught.value.reason == reason and reason in REASONS
    assert "oslo" in str(caught.value) and "Nothing of it was added" in str(caught.value)


@pytest.mark.parametrize("seat", [None, Seat(site_id="bergen", num_cases=10)])
def test_a_site_without_a_seat_is_refused(seat):
    with pytest.raises(UpdateError) as caught:
        check(GOOD, seat=seat)
    assert caught.value.reason == "members"


@pytest.mark.parametrize("lengths", [{"n": 2}, {}, {"n": 1, "loss": 1}, {"m": 1}])
def test_sums_other_than_those_asked_for_are_refused(lengths):
    with pytest.raises(UpdateError) as caught:
        check(GOOD, sum_lengths=lengths)
    assert caught.value.reason == "fields"


def test_params_in_answer_to_a_task_that_only_scores_are_refused():
    with pytest.raises(UpdateError) as caught:
        check(GOOD, task=replace(TASK, purpose="score"))
    assert caught.value.reason == "header"


def test_the_message_says_which_param_was_to_be_what():
    with pytest.raises(UpdateError, match=r"lack \['b'\] and add \['B'\]"):
        check(replace(GOOD, delta={"w": PARAMS["w"], "B": PARAMS["b"]}))
    wrong = {**PARAMS, "w": np.zeros((3, 2), np.float32)}
    with pytest.raises(UpdateError, match=r"\(3, 2\)\) was to be .*\(2, 3\)"):
        check(replace(GOOD, delta=wrong))
