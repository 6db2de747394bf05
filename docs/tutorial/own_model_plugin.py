"""An own model, an own loss and an own algorithm, for `hospitium ... --plugin FILE.py`."""

from dataclasses import replace

import numpy as np
import torch
from monai.networks.nets import DenseNet
from torch.nn import functional

from hospitium.types import Aggregate, Algorithm, Result, State, Task


def small_densenet(in_channels: int, num_outputs: int, growth_rate: int = 8) -> DenseNet:
    """The net of the script, with group norm in place of batch norm."""
    return DenseNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_outputs,
        init_features=16,
        growth_rate=growth_rate,
        block_config=(2, 2),
        norm=("group", {"num_groups": 8}),
    )


def missed_costs_more(
    logits: torch.Tensor, labels: torch.Tensor, case_weights: torch.Tensor
) -> torch.Tensor:
    """The loss of the script: a finding that is missed counts twice."""
    target = labels.to(logits.dtype)
    weight = torch.tensor(2.0, device=logits.device)
    per_case = functional.binary_cross_entropy_with_logits(
        logits[:, 0], target, pos_weight=weight, reduction="none"
    )
    return (per_case * case_weights).mean()


class HalfStep:
    """FedAvg that goes only half of the way to the sites' mean in each round."""

    def __init__(self, fedavg: Algorithm) -> None:
        self._fedavg = fedavg

    def init(self) -> State:
        return self._fedavg.init()

    def task(self, state: State, *, round_number: int) -> Task:
        return self._fedavg.task(state, round_number=round_number)

    def aggregate(self, task: Task) -> Aggregate:
        return self._fedavg.aggregate(task)

    def step(self, state: State, result: Result) -> State:
        half = {name: np.float32(0.5) * change for name, change in result.delta.items()}
        return self._fedavg.step(state, replace(result, delta=half))


def register(plugin) -> None:
    """Called once, with an object that takes what this file adds."""
    plugin.model("small_densenet", small_densenet)
    plugin.loss("missed_costs_more", missed_costs_more)
    plugin.algorithm("half_step", HalfStep)
