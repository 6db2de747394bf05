"""The registry of models: a name and validated arguments become a ``torch.nn.Module``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from hospitium.errors import PlanError
from hospitium.training.models.monai_nets import densenet121, resnet18, resnet50
from hospitium.training.models.small_cnn import small_cnn

BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "densenet121": densenet121,
}


def build_model(
    name: str,
    *,
    in_channels: int,
    num_outputs: int,
    args: Mapping[str, Any],
    plugins: Mapping[str, Callable[..., nn.Module]] | None = None,
) -> nn.Module:
    """Build a model; its params are drawn from torch's generator as it stands.

    Raises:
        PlanError: An argument has a value that the model cannot take, or the model holds batch
            norm, whose buffers no plan has a rule for yet.
    """
    build = {**BUILDERS, **(plugins or {})}[name]
    try:
        inspect.signature(build).bind(in_channels, num_outputs, **args)
        model = build(in_channels, num_outputs, **args)
    except (TypeError, ValueError) as error:
        raise PlanError([f"model.args of {name}: {error}"]) from error
    buffers = [buffer for buffer, _ in model.named_buffers()]
    if buffers:
        raise PlanError(
            [
                f"model.name = {name!r}: it has buffers ({buffers[0]}), as batch norm does; "
                "use group or instance norm"
            ]
        )
    return model
