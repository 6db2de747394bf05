"""ResNet and DenseNet from MONAI, with group norm in place of batch norm.

MONAI is imported when one of them is built: ``small_cnn`` and the NumPy models do without.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_NUM_GROUPS = 32


def resnet18(in_channels: int, num_outputs: int, stem: str = "standard") -> nn.Module:
    """ResNet-18 (He 2016, arXiv:1512.03385), 11.2 M params; ``stem="small"`` for 28 x 28 images."""
    from monai.networks.nets import resnet

    return _with_group_norm(resnet.resnet18(**_resnet_args(in_channels, num_outputs, stem)))


def resnet50(in_channels: int, num_outputs: int, stem: str = "standard") -> nn.Module:
    """ResNet-50, 23.5 M params; ``stem="small"`` for 28 x 28 images."""
    from monai.networks.nets import resnet

    return _with_group_norm(resnet.resnet50(**_resnet_args(in_channels, num_outputs, stem)))


def densenet121(in_channels: int, num_outputs: int) -> nn.Module:
    """DenseNet-121 (Huang 2017, arXiv:1608.06993), 6.95 M params."""
    from monai.networks.nets import densenet

    return _with_group_norm(
        densenet.DenseNet121(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=num_outputs,
            pretrained=False,
        )
    )


def _resnet_args(in_channels: int, num_outputs: int, stem: str) -> dict[str, Any]:
    """``small``: 3x3, stride 1 and no max-pooling; ``standard``: 7x7, stride 2 and max-pooling."""
    if stem not in ("standard", "small"):
        raise ValueError(f"stem = {stem!r}: expected 'standard' or 'small'")
    small = stem == "small"
    return {
        "pretrained": False,
        "spatial_dims": 2,
        "n_input_channels": in_channels,
        "num_classes": num_outputs,
        "conv1_t_size": 3 if small else 7,
        "conv1_t_stride": 1 if small else 2,
        "no_max_pool": small,
    }


def _with_group_norm(net: Any) -> nn.Module:
    """Put a group norm in the place of each batch norm of a new net, under the same name.

    MONAI's own ``norm`` argument reaches only the first norm of its ResNets (MONAI 1.6).
    """
    assert isinstance(net, nn.Module)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(_NUM_GROUPS, child.num_features))
    return net
