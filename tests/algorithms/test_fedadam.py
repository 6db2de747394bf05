"""FedAdam: AdamW of PyTorch is the yardstick."""

from dataclasses import replace

import numpy as np
import torch

from hospitium.algorithms.fedadam import FedAdam
from hospitium.algorithms.fedavg import FedAvg
from hospitium.types import Result

FIRST = {"w": np.array([1.0, -2.0, 0.5], np.float32)}


def fedadam(*, ema=0.0, **values):
    base = FedAvg(
        run_id="r",
        plan_digest="0" * 64,
        first_params=lambda: FIRST,
        seats=(),
        weights={},
        ema=ema,
    )
    return FedAdam(base=base, rate=lambda taken: 0.1 / (1 + taken), **values)


def result_of(delta):
    return Result(delta=delta, sum_weight=1, site_ids=frozenset({"a"}), sums={})


def test_steps_are_those_of_adamw_along_the_mean_change():
    algorithm, draw = fedadam(beta1=0.8, beta2=0.95, decay=0.3), np.random.default_rng(5)
    state = algorithm.init()
    state = replace(
        state,
        params={"w": FIRST["w"], "matrix": np.ones((2, 3), np.float32)},
        slots={
            slot: {"w": np.zeros(3, np.float32), "matrix": np.zeros((2, 3), np.float32)}
            for slot in ("exp_avg", "exp_avg_sq")
        },
    )
    theirs = {name: torch.tensor(array.copy()) for name, array in state.params.items()}
    groups = [
        {"params": [theirs["w"]], "weight_decay": 0.0},
        {"params": [theirs["matrix"]], "weight_decay": 0.3},
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.8, 0.95), foreach=False)
    for taken in range(12):
        delta = {name: draw.normal(size=a.shape).astype(np.float32) for name, a in theirs.items()}
        state = algorithm.step(state, result_of(delta))
        for group in adamw.param_groups:
            group["lr"] = 0.1 / (1 + taken)
        for name, tensor in theirs.items():
            tensor.grad = torch.tensor(-delta[name])
        adamw.step()
        for name, tensor in theirs.items():
            np.testing.assert_allclose(state.params[name], tensor.numpy(), atol=2e-6)
    assert state.memory["steps"] == 12


def test_a_step_is_pure_and_keeps_norms_and_running_average():
    algorithm = fedadam(ema=0.5)
    first = algorithm.init()
    before = {name: array.copy() for name, array in first.params.items()}
    delta = {"w": np.full(3, 2.0, np.float32)}
    after, again = (algorithm.step(first, result_of(delta)) for _ in range(2))
    np.testing.assert_array_equal(after.params["w"], again.params["w"])
    np.testing.assert_array_equal(first.params["w"], before["w"])
    assert set(after.slots) == {"ema", "exp_avg", "exp_avg_sq"} and "norms" in after.memory
    np.testing.assert_allclose(
        after.slots["ema"]["w"], 0.5 * before["w"] + 0.5 * after.params["w"], rtol=1e-6
    )
