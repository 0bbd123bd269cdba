"""Gates: random numbers in [0, 1] that are exactly 0 or 1 with some probability.

Source: hard-concrete gates: 'Learning Sparse Neural Networks through L0 Regularization' (Louizos,
Welling and Kingma 2018), Eq. 10 to 13. Uniform gates: 'Optimal ablation for interpretability' (Li
and Janson 2024), uniform gradient sampling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1
"""What the sigmoid is stretched to before it is cut off at 0 and 1."""


def sample(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Gates from uniform numbers in (0, 1) of a shape that `log_alpha` broadcasts to."""
    noise = uniform.log() - (-uniform).log1p()
    stretched = torch.sigmoid((noise + log_alpha) / TEMPERATURE) * (HIGH - LOW) + LOW
    return stretched.clamp(0, 1)


def without_noise(log_alpha: Tensor) -> Tensor:
    """The gates that are used once training is over (Louizos et al., Eq. 13)."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """The probability that a gate is not 0."""
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def sample_uniform(log_odds: Tensor, uniform: Tensor) -> Tensor:
    """Gates that are 1 below a window of width theta (1 - theta) about theta, and 0 above it.

    theta is the sigmoid of `log_odds`; within the window a gate falls from 1 to 0, and its gradient
    is felt. Its expectation is theta.
    """
    theta = torch.sigmoid(log_odds)
    return (0.5 - (uniform - theta) / (theta * (1 - theta))).clamp(0, 1)
