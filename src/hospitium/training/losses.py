"""The registry of losses: each is a mean over cases, weighted by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""``(logits, labels, case_weights)`` to a scalar; logits are (case, 1) or (case, K)."""


def per_case(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return ``(case,)`` cross-entropy: of a sigmoid for one logit, else of a softmax."""
    if logits.shape[1] > 1:
        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    target = labels.to(logits.dtype) * (1 - smoothing) + 0.5 * smoothing
    return functional.binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")


def cross_entropy(smoothing: float) -> Loss:
    """Cross-entropy, with label smoothing (Szegedy 2016, arXiv:1512.00567)."""

    def compute(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (per_case(logits, labels, smoothing) * weights).mean()

    return compute


def focal(smoothing: float) -> Loss:
    """Focal loss with gamma 2 (Lin 2017, arXiv:1708.02002): easy cases count less."""

    def compute(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        plain = per_case(logits, labels, 0.0)
        return ((1 - torch.exp(-plain)) ** 2 * per_case(logits, labels, smoothing) * weights).mean()

    return compute


LOSSES: Mapping[str, Callable[[float], Loss]] = {"cross_entropy": cross_entropy, "focal": focal}
