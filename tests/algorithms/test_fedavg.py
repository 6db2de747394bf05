from dataclasses import replace

import numpy as np
import pytest

from hospitium import algorithms
from hospitium.algorithms.norm_bound import NORM_SUM, norm_sum
from hospitium.errors import UpdateError
from hospitium.plan import Plan
from hospitium.plan.schema import AlgorithmSection
from hospitium.types import Result, Seat, Update
from hospitium.wire.blob import digest_of

FIRST = {"w": np.array([1.0, -2.0, 0.5], np.float32)}
SEATS = [Seat(site_id=name, num_cases=cases) for name, cases in (("a", 10), ("b", 20), ("c", 30))]


def fedavg(sum_lengths=None, plugins=None, **values):
    plan = Plan(algorithm=replace(AlgorithmSection(), **values))
    return algorithms.build(
        plan,
        run_id="r",
        seats=SEATS,
        first_params=lambda: FIRST,
        plugins=plugins,
        sum_lengths=sum_lengths,
    )


def update(task, site_id, delta, **values):
    cases = {seat.site_id: seat.num_cases for seat in SEATS}[site_id]
    if "sums" not in values:
        values["sums"] = {NORM_SUM: norm_sum(float(np.linalg.norm(delta)))}
    return Update(
        run_id=task.run_id,
        round_number=task.round_number,
        site_id=site_id,
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        num_cases=cases,
        delta={"w": np.array(delta, np.float32)} if task.purpose == "train" else {},
        **values,
    )


def rounds_of(algorithm, norms):
    """Run rounds in which every site moves by the given norms; return the bound of each round."""
    state, bounds = algorithm.init(), []
    for number, row in enumerate(norms, start=1):
        task = algorithm.task(state, round_number=number)
        bounds.append(task.max_norm)
        aggregate = algorithm.aggregate(task)
        for seat, norm in zip(SEATS, row, strict=True):
            kept = min(norm, task.max_norm)
            sums = {NORM_SUM: norm_sum(norm)}
            aggregate.add(update(task, seat.site_id, [kept, 0, 0], sums=sums))
        state = algorithm.step(state, aggregate.result())
    return [*bounds, algorithm.task(state, round_number=len(norms) + 1).max_norm]


def test_the_next_params_are_the_weighted_mean_of_the_changes_further():
    algorithm = fedavg(max_share=1.0)
    task = algorithm.task(algorithm.init(), round_number=1)
    aggregate = algorithm.aggregate(task)
    deltas = {"a": [6, 0, 3], "b": [0, 3, -3], "c": [0.0, 1.0, 2.0]}
    for site_id, delta in deltas.items():
        aggregate.add(update(task, site_id, delta))
    state = algorithm.step(algorithm.init(), aggregate.result())
    expected = FIRST["w"] + (10 * np.array([6, 0, 3]) + 20 * np.array([0, 3, -3])
                             + 30 * np.array([0, 1, 2])) / 60  # fmt: skip
    np.testing.assert_allclose(state.params["w"], expected, rtol=1e-6)
    assert state.params["w"].dtype == np.float32


def test_the_task_names_its_params_and_the_bound_of_round_one_is_the_plans():
    algorithm = fedavg(max_norm=3.25)
    task = algorithm.task(algorithm.init(), round_number=1)
    assert (task.run_id, task.round_number, task.purpose) == ("r", 1, "train")
    assert task.base_digest == digest_of(FIRST) and task.max_norm == 3.25


def test_later_bounds_are_a_factor_times_the_median_norm_of_the_last_five_rounds():
    norms = [[4, 4, 9], [2, 2, 2], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [8, 8, 8]]
    bounds = rounds_of(fedavg(max_norm=20.0, clip_factor=1.5), norms)
    assert bounds[0] == 20.0
    for number in range(1, len(norms) + 1):
        seen = sorted(norm for row in norms[max(0, number - 5) : number] for norm in row)
        assert bounds[number] == pytest.approx(1.5 * seen[(len(seen) - 1) // 2], rel=0.05)


def test_a_fixed_bound_is_that_of_every_round():
    assert rounds_of(fedavg(clip="fixed", max_norm=2.0), [[9, 9, 9]] * 3) == [2.0] * 4


def test_a_round_in_which_no_norm_was_told_leaves_the_bound_as_it_was():
    algorithm = fedavg(max_norm=2.0)
    result = Result(
        delta={"w": np.zeros(3, np.float32)}, sum_weight=1, site_ids=frozenset({"a"}), sums={}
    )
    state = algorithm.step(algorithm.step(algorithm.init(), result), result)
    assert algorithm.task(state, round_number=3).max_norm == 2.0


def test_a_site_that_lies_about_its_norm_has_one_voice_only():
    algorithm = fedavg()
    task = algorithm.task(algorithm.init(), round_number=1)
    loud = tuple(1000 * count for count in norm_sum(1e9))
    aggregate = algorithm.aggregate(task)
    with pytest.raises(UpdateError) as caught:
        aggregate.add(update(task, "a", [0, 0, 0], sums={NORM_SUM: loud}))
    assert caught.value.reason == "fields" and aggregate.num_sites == 0


def test_a_site_with_sums_of_another_length_cannot_turn_honest_sites_away():
    algorithm = fedavg(sum_lengths={"n": 1})
    task = algorithm.task(algorithm.init(), round_number=1)
    aggregate = algorithm.aggregate(task)
    norm = {NORM_SUM: norm_sum(1.0)}
    for wrong in ({"n": (1, 2)}, {}, {"n": (1,), "m": (1,)}):
        with pytest.raises(UpdateError):
            aggregate.add(update(task, "a", [1, 0, 0], sums={**norm, **wrong}))
    aggregate.add(update(task, "b", [1, 0, 0], sums={**norm, "n": (3,)}))
    aggregate.add(update(task, "c", [1, 0, 0], sums={**norm, "n": (4,)}))
    assert aggregate.result().sums["n"] == (7,)


def test_without_lengths_from_the_plan_the_first_site_sets_them():
    algorithm = fedavg()
    task = algorithm.task(algorithm.init(), round_number=1)
    aggregate = algorithm.aggregate(task)
    aggregate.add(update(task, "a", [1, 0, 0], sums={"n": (1,)}))
    with pytest.raises(UpdateError, match="another length"):
        aggregate.add(update(task, "b", [1, 0, 0], sums={"n": (1, 2)}))
    assert aggregate.num_sites == 1


def test_a_task_that_only_scores_sums_metrics_and_moves_nothing():
    algorithm = fedavg(sum_lengths={"n": 1})
    task = replace(algorithm.task(algorithm.init(), round_number=9), purpose="score")
    aggregate = algorithm.aggregate(task)
    aggregate.add(update(task, "a", [0], sums={"n": (5,)}))
    result = aggregate.result()
    assert (result.delta, result.sums, result.num_sites) == ({}, {"n": (5,)}, 1)


def test_a_second_update_of_a_seat_is_a_conflict_whatever_it_holds():
    algorithm = fedavg()
    task = algorithm.task(algorithm.init(), round_number=1)
    aggregate = algorithm.aggregate(task)
    aggregate.add(update(task, "a", [1, 0, 0]))
    alone = algorithm.aggregate(task)
    alone.add(update(task, "a", [1, 0, 0]))
    for delta in ([1, 0, 0], [np.nan, 0, 0]):
        with pytest.raises(UpdateError) as caught:
            aggregate.add(update(task, "a", delta, sums={}))
        assert caught.value.reason == "seat_conflict"
    np.testing.assert_array_equal(aggregate.result().delta["w"], alone.result().delta["w"])


def test_the_running_average_follows_the_params_from_the_first_on():
    algorithm = fedavg(ema=0.75)
    state = algorithm.init()
    np.testing.assert_array_equal(state.slots["ema"]["w"], FIRST["w"])
    result = Result(
        delta={"w": np.ones(3, np.float32)}, sum_weight=1, site_ids=frozenset({"a"}), sums={}
    )
    expected = FIRST["w"].astype(float)
    for number in range(1, 6):
        state = algorithm.step(state, result)
        expected = 0.75 * expected + 0.25 * (FIRST["w"] + number)
    np.testing.assert_allclose(state.slots["ema"]["w"], expected, rtol=1e-6)


def test_the_coordinator_rate_scales_the_step_and_a_step_is_pure():
    algorithm = fedavg(coordinator_lr=0.5)
    state = algorithm.init()
    result = Result(
        delta={"w": np.full(3, 2.0, np.float32)}, sum_weight=1, site_ids=frozenset({"a"}), sums={}
    )
    np.testing.assert_array_equal(algorithm.step(state, result).params["w"], FIRST["w"] + 1)
    np.testing.assert_array_equal(state.params["w"], np.array([1.0, -2.0, 0.5], np.float32))
    assert state.slots == {}


def test_an_algorithm_of_a_plug_in_is_given_the_fedavg_of_the_plan():
    halved = fedavg(plugins={"fedavg": lambda base: replace(base, coordinator_lr=0.5)})
    assert halved.coordinator_lr == 0.5
    assert fedavg(plugins={"other": None}).coordinator_lr == 1.0
