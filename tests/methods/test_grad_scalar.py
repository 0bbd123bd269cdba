"""GradScalar against central differences of the logit difference in each activation scalar."""

from itertools import product
from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.core.points import HEAD_SITES, Site
from methods.grad_scalar import GradScalar
from tests.methods.lens import activation, cache_of, full_logits, metric_of
from tests.methods.small import grid_of, prompt_scores, prompts, subject

STEP = 1e-2


def hook_of(model: Any, site: Site, layer: int) -> tuple[str, bool]:
    """Where a site is edited, and whether heads come first there, as behind a norm of theirs."""
    if site not in HEAD_SITES:
        # What is added to resid_mid is added to it by attn_out.
        return f"blocks.{layer}.hook_{'attn_out' if site is Site.RESID_MID else site}", False
    name = f"blocks.{layer}.attn.hook_{'z' if site is Site.O else site}"
    normed = f"{name}_normed" in model.bridge.hook_dict
    return name + "_normed" * normed, normed


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_is_the_central_difference_of_scaling_by_hand(architecture: str) -> None:
    """By TransformerLens's hooks, at every site, also of one head, in float64."""
    model, some = subject(architecture, torch.float64), prompts()
    grid = grid_of(model, model.sites, [0, 3, -1])
    scores = prompt_scores(GradScalar(), model, some, grid)
    clean = cache_of(model, some.tokens)
    expected = torch.zeros_like(scores)
    for site, layer in grid.site_layers:
        rows = grid.rows(site)
        # A row for each place, position, sign and prompt.
        heads = range(rows.stop - rows.start)
        steps = [*product(heads, grid.positions, (STEP, -STEP))]
        many = some.take([*range(len(some))] * len(steps))
        h, (name, first) = activation(clean, site, layer), hook_of(model, site, layer)

        def scale(x: Any, hook: Any, h: Any = h, steps: Any = steps, site: Site = site,
                  first: bool = first) -> Any:  # fmt: skip
            x = x.transpose(1, 2) if first else x
            x = x.unflatten(0, (len(steps), len(some))).clone()
            for row, (head, at, alpha) in enumerate(steps):
                place = (at, head) if site in HEAD_SITES else (at,)
                x[(row, slice(None), *place)] += alpha * h[(slice(None), *place)]
            return x.flatten(0, 1).transpose(1, 2) if first else x.flatten(0, 1)

        lds = metric_of(many)(full_logits(model, many.tokens, [(name, scale)]))
        up, down = lds.view(len(heads), len(grid.positions), 2, len(some)).unbind(2)
        expected[:, rows, layer] = ((up - down) / (2 * STEP)).permute(2, 0, 1).float()
    found, expected = scores * grid.included, expected * grid.included
    largest = float(expected.abs().max())
    assert largest > 0.1
    # Within 1 %, or within a thousandth of the largest where a score is next to nothing.
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * largest)
