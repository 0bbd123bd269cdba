"""Proximal steps: exact zeros, and a planted sparse solution found again."""

from typing import Any

import pytest
import torch

from methods.activ_scalar import ActivScalar
from methods.core.points import PointGrid, Site
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.training import adam_metric
from methods.steer_vec import SteerVec
from tests.methods.small import grid_of, prompts, setting, subject

GRID = PointGrid((Site.ATTN_OUT, Site.MLP_OUT), 3, tuple(range(5)), 5)


@pytest.mark.parametrize("cls", [ActivScalar, SteerVec])
def test_more_weight_gives_more_exact_zeros(cls: Any) -> None:
    model, some = subject("llama"), prompts()
    grid = grid_of(model)

    def share_of_zeros(sparsity: str, lambda_m: float) -> float:
        method = cls(sparsity=sparsity)
        found = method.fit(model, some, grid, setting(lambda_m=lambda_m)).intervention
        return float((found.magnitudes() == 0).float().mean())

    shares = [share_of_zeros("proximal", weight) for weight in (1e-3, 1.0)]
    assert share_of_zeros("penalty", 1.0) == 0
    assert shares == sorted(shares)
    assert shares[-1] >= 0.8


def trained(parameters: Any, gradient: Any, lambda_m: float, steps: int = 400) -> None:
    """Adam with proximal steps on a smooth loss whose gradient is given."""
    (theta,) = parameters.parameters()
    optimizer = torch.optim.Adam([theta], lr=1e-2)
    for _ in range(steps):
        theta.grad = gradient(theta.detach())
        optimizer.step()
        parameters.shrink([1e-2 * lambda_m / metric for metric in adam_metric(optimizer)])


def test_a_planted_sparse_solution_is_found() -> None:
    """min ||theta - planted||^2 / 2 + lambda ||theta||_1 is planted, moved towards 0 by lambda."""
    planted = torch.zeros(GRID.shape)
    planted[0, 1, 2], planted[1, 2, 4], planted[1, 0, 0] = 1.0, -0.7, 0.05
    scaling = StaticScaling(GRID, 1e-5 * torch.randn(GRID.shape))
    trained(scaling, lambda theta: theta - planted, lambda_m=0.1)
    expected = planted.sign() * torch.relu(planted.abs() - 0.1)
    assert torch.equal(scaling.alpha != 0, expected != 0)
    torch.testing.assert_close(scaling.alpha.detach(), expected, atol=0.02, rtol=0)


def test_vectors_vanish_whole() -> None:
    planted = torch.zeros((*GRID.shape, 16))
    planted[0, 1, 2] = 1.0
    steering = SteeringVectors(GRID, 1e-5 * torch.randn((*GRID.shape, 16)))
    noise = 0.02 * torch.randn_like(planted)
    trained(steering, lambda theta: theta - planted - noise, lambda_m=0.1)
    kept = steering.magnitudes().view(GRID.shape) > 0
    assert kept.nonzero().tolist() == [[0, 1, 2]]
    assert bool((steering.vectors[0, 1, 2] != 0).all())
