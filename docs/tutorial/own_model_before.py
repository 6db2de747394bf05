"""An ordinary training script: one MONAI net, one data set in one place, no federation.

Usage: python docs/tutorial/own_model_before.py images.npz
"""

import sys

import numpy as np
import torch
from monai.networks.nets import DenseNet
from torch.nn import functional


def build_net(in_channels: int, num_outputs: int) -> DenseNet:
    return DenseNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_outputs,
        init_features=16,
        growth_rate=8,
        block_config=(2, 2),
        norm="batch",
    )


def missed_costs_more(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    target = labels.to(logits.dtype)
    weight = torch.tensor(2.0)
    return functional.binary_cross_entropy_with_logits(logits[:, 0], target, pos_weight=weight)


def main(path: str) -> None:
    with np.load(path) as data:
        images = torch.from_numpy(data["train_images"][:, None] / np.float32(255))
        labels = torch.from_numpy(data["train_labels"].reshape(-1).astype(np.int64))
    torch.manual_seed(7)
    net = build_net(1, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.004)
    for step in range(60):
        index = torch.randint(len(images), (32,))
        optimizer.zero_grad()
        loss = missed_costs_more(net(images[index]), labels[index])
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
