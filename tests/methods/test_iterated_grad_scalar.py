"""IteratedGradScalar: its first step against GradScalar, its last against the objective."""

from typing import Any

import pytest
import torch

from methods.core.objective import kl_divergence
from methods.core.points import PointGrid
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from methods.iterated_grad_scalar import IteratedGradScalar
from tests.methods.small import apart, grid_of, prompt_scores, prompts, setting, subject


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_one_step_is_grad_scalar_with_prompts_weighted(architecture: str) -> None:
    model, some = subject(architecture), prompts(6)
    grid = grid_of(model, ["v", "z", "mlp_out", "resid_post"])
    ld = some.logit_difference(model.unsteered_logits(some.tokens))
    margin = float(ld.abs().median())  # so that some prompts count twice
    weight = 1 + (ld.abs() < margin).float()
    assert len(weight.unique()) == 2
    slopes = prompt_scores(GradScalar(), model, some, grid)
    expected = (weight[:, None, None, None] * slopes).mean(dim=0)[grid.included]
    found = IteratedGradScalar(steps=1).fit(model, some, grid, setting(margin=margin)).scores
    found = found[grid.included]
    assert float(found.abs().max()) == pytest.approx(0.25)
    assert apart(found * expected.abs().max() / 0.25, expected) < 1e-4
    unweighted = slopes.mean(dim=0)[grid.included]
    along = torch.nn.functional.cosine_similarity(found, unweighted, dim=0)
    assert along < 0.9999


def psi(model: SubjectModel, grid: PointGrid, alpha: Any) -> float:
    """E_1 + F of scalars, from the formulas."""
    some, scaling = prompts(), StaticScaling(grid, alpha)
    reference = torch.log_softmax(model.unsteered_logits(some.tokens), dim=-1)
    total = 0.0
    for sign in (1.0, -1.0):
        with torch.no_grad():
            logits = model.logits(some.tokens, scaling.at(torch.full((len(some),), sign)))
        hinge = torch.relu(1 - sign * some.logit_difference(logits))
        total -= float((hinge + kl_divergence(logits, reference)).mean())
    return total


def test_more_steps_of_the_same_reach_climb_higher() -> None:
    model = subject("llama")
    grid = grid_of(model, ["attn_out", "mlp_out"])
    values = [
        psi(model, grid, IteratedGradScalar(steps=n).fit(model, prompts(), grid, setting()).scores)
        for n in (1, 3, 12)
    ]
    assert psi(model, grid, torch.zeros(grid.shape)) < values[0]
    assert values[0] < values[1] < values[2]
