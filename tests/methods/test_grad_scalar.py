"""GradScalar against central differences of the logit difference in each activation scalar."""

from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from tests.methods.small import (
    activation,
    cache_of,
    full_logits,
    grid_of,
    metric_of,
    prompts,
    setting,
    subject,
)

STEP = 1e-2


def assert_within_a_percent(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1 %, or within a thousandth of the largest where a score is next to nothing."""
    largest = float(expected.abs().max())
    assert largest > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * largest)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_is_the_central_difference_of_scaling_by_hand(architecture: str) -> None:
    """The edit is made here with TransformerLens's hooks, in float64."""
    model, some = subject(architecture, torch.float64), prompts()
    grid = grid_of(model)
    scores = GradScalar().fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    clean = cache_of(model, some.tokens)
    # A row for each position, sign and prompt.
    steps = [(at, sign * STEP) for at in grid.positions for sign in (1, -1)]
    many = some.take([*range(len(some))] * len(steps))
    expected = torch.zeros_like(scores)
    for index, site in enumerate(grid.sites):
        for layer in range(grid.n_layers):
            h = activation(clean, site, layer)
            # What is added to resid_mid is added to it by attn_out.
            hook = "attn_out" if site is Site.RESID_MID else site.value

            def scale(x: Any, hook: Any, h: Any = h) -> Any:
                x = x.unflatten(0, (len(steps), len(some))).clone()
                for row, (at, alpha) in enumerate(steps):
                    x[row, :, at] += alpha * h[:, at]
                return x.flatten(0, 1)

            lds = metric_of(many)(
                full_logits(model, many.tokens, [(f"blocks.{layer}.hook_{hook}", scale)])
            ).view(len(grid.positions), 2, len(some))
            expected[:, index, layer] = ((lds[:, 0] - lds[:, 1]) / (2 * STEP)).T
    expected *= grid.included
    assert_within_a_percent(scores * grid.included, expected)


def central_differences(model: SubjectModel, some: Prompts, grid: Any) -> torch.Tensor:
    """(prompt, point that takes part), by Eq. 5 at beta = +-0.01 as the suite itself applies it."""
    beta = torch.tensor([STEP] * len(some) + [-STEP] * len(some))
    differences = []
    for point in grid.included.nonzero():
        alpha = torch.zeros(grid.shape)
        alpha[tuple(point)] = 1
        with torch.no_grad():
            logits = model.logits(some.tokens.repeat(2, 1), StaticScaling(grid, alpha).at(beta))
        plus, minus = (some.logit_difference(part) for part in logits.split(len(some)))
        differences.append((plus - minus) / (2 * STEP))
    return torch.stack(differences, dim=1)


def test_is_the_central_difference_on_smollm2(smollm2: Any) -> None:
    model = SubjectModel(smollm2.bridge)
    texts = ["The capital of France is", "The capital of Spain is"]
    tokens = torch.tensor([smollm2.tokenizer.encode(t, add_special_tokens=False) for t in texts])
    answers, foils = (
        torch.tensor([smollm2.tokenizer.encode(t, add_special_tokens=False)[0] for t in words])
        for words in ([" Paris", " Madrid"], [" Rome", " Berlin"])
    )
    some = Prompts(tokens, tokens, answers, foils, has_bos=False)
    grid = grid_of(model, ["attn_out", "mlp_out"], [-2, -1], tokens.shape[1])
    scores = GradScalar().fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    # The points of two layers.
    layers = torch.zeros_like(grid.included)
    layers[:, ::15] = True
    grid.included.logical_and_(layers)
    assert_within_a_percent(scores[:, grid.included], central_differences(model, some, grid))
