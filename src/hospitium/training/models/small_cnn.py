"""``small_cnn``: stages of 3x3 convolutions, group norm and global pooling, for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def small_cnn(
    in_channels: int,
    num_outputs: int,
    widths: Sequence[int] = (32, 64, 128),
    convs_per_stage: int = 2,
    dropout: float = 0.2,
) -> nn.Module:
    """Build the net: per stage convolutions with group norm (8 groups) and ReLU, the first strided.

    The stride of 2 in the first convolution of a stage halves the image: 28, 14, 7, 4. Beside a
    net of one convolution per stage and max-pooling it is faster and generalised better to held-out
    scanners (`docs/results/pneumonia.md`). 0.29 M params at the default width.

    Args:
        in_channels: Channels of an image.
        num_outputs: Logits per case.
        widths: Channels of each stage; each a multiple of 8.
        convs_per_stage: Convolutions in each stage.
        dropout: Share of the pooled features dropped in training.

    Raises:
        ValueError: A width is not a multiple of 8, or a stage would be empty.
    """
    if not widths or any(width < 8 or width % 8 for width in widths):
        raise ValueError(f"widths = {list(widths)}: expected multiples of 8")
    if convs_per_stage < 1:
        raise ValueError(f"convs_per_stage = {convs_per_stage}: expected at least 1")
    return _SmallCNN(in_channels, num_outputs, tuple(widths), convs_per_stage, dropout)


class _SmallCNN(nn.Module):
    """The net as a module with readable names of its params."""

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        widths: tuple[int, ...],
        convs_per_stage: int,
        dropout: float,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = in_channels
        for width in widths:
            for number in range(convs_per_stage):
                stride = 2 if number == 0 else 1
                blocks += [
                    nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                    nn.GroupNorm(8, width),
                    nn.ReLU(inplace=True),
                ]
                channels = width
        self.features = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_outputs)
        self._draw()

    def _draw(self) -> None:
        """Draw the first params: He initialisation (arXiv:1502.01852), a head close to zero."""
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``(case, num_outputs)`` logits of ``(case, channel, row, column)`` images."""
        pooled = self.features(images).mean(dim=(2, 3))
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits
