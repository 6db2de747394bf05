import numpy as np
import pytest
import torch

from hospitium.plan.checking import LOSSES as NAMES
from hospitium.training.losses import LOSSES

ONES = torch.ones(4)
LABELS = torch.tensor([0, 1, 1, 0])


def slow(logits, labels, smoothing):
    """Return the cross-entropy of each case from probabilities, with smoothed targets."""
    logits = logits.double().numpy()
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.full_like(p, smoothing / p.shape[1])
    target[np.arange(len(labels)), labels] += 1 - smoothing
    return -(target * np.log(p)).sum(1)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_weighted_mean_over_cases(classes, smoothing):
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5])
    found = LOSSES["cross_entropy"](smoothing)(logits, LABELS, weights)
    expected = (slow(logits, LABELS, smoothing) * weights.numpy()).mean()
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_focal_loss_is_cross_entropy_times_the_square_of_what_is_missing(classes):
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(2))
    plain = slow(logits, LABELS, 0.0)
    expected = ((1 - np.exp(-plain)) ** 2 * plain).mean()
    found = LOSSES["focal"](0.0)(logits, LABELS, ONES)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_one_logit_and_two_logits_of_the_same_odds_cost_the_same():
    logits = torch.tensor([[0.3], [-1.0], [4.0], [0.0]])
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    one, two = (LOSSES["cross_entropy"](0.1)(x, LABELS, ONES) for x in (logits, both))
    assert float(one) == pytest.approx(float(two), rel=1e-6)


def test_the_losses_that_plans_may_name_are_those_there_are():
    assert set(LOSSES) == NAMES
