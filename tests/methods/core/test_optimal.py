"""Optimal ablation: the constants hurt less than means, zeros and other constants."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from methods.activ_patch import ActivPatch
from methods.core.corruption import contrasts
from methods.core.hooks import Activations
from methods.core.objective import kl_divergence
from methods.core.points import PointGrid
from tests.methods.lens import full_logits
from tests.methods.small import N_LAYERS, apart, grid_of, prompts, setting, subject

MODEL = "gemma2"


def divergences(grid: PointGrid, donated: Activations) -> Tensor:
    """KL, mean over prompts, of each component ablated by hand at all positions, (place, layer)."""
    model, some = subject(MODEL), prompts(5)
    reference = torch.log_softmax(model.unsteered_logits(some.tokens), dim=-1)
    found = torch.zeros(grid.shape[:2])
    for (row, place), layer in product(enumerate(grid.places), range(N_LAYERS)):
        at = (slice(None), slice(None), *([] if place.head is None else [place.head]))

        def put(h: Tensor, hook: object, of: Any = (place.site, layer), at: Any = at) -> Tensor:
            h = h.clone()
            h[at] = donated[of][at]
            return h

        name = f"blocks.{layer}.{'hook_mlp_out' if place.head is None else 'attn.hook_z'}"
        logits = full_logits(model, some.tokens, [(name, put)])[:, -1]
        found[row, layer] = kl_divergence(logits, reference).mean()
    return found


def test_it_hurts_less_than_the_mean_and_zero_at_every_component() -> None:
    model = subject(MODEL)
    grid = grid_of(model, ["z", "mlp_out"])
    optimal, mean, zero = (
        contrasts(model, prompts(5), grid, corruption, "noising", 0)[0].donated
        for corruption in ("optimal", "mean", "zero")
    )
    for h in optimal.values():
        assert torch.equal(h, h[:1, :1].expand_as(h)), "the same for all prompts and positions"
    flat = {point: h.mean(dim=(0, 1)).expand_as(h) for point, h in mean.items()}
    best, of_flat, of_zero = (divergences(grid, one) for one in (optimal, flat, zero))
    assert (best <= of_flat + 1e-6).all()
    assert float(best.mean()) < 0.9 * float(of_flat.mean())
    assert float(best.mean()) < 0.9 * float(of_zero.mean())


def test_a_component_that_is_constant_anyhow_is_ablated_at_no_cost() -> None:
    model = subject(MODEL)
    grid = grid_of(model, ["mlp_out"], "last")
    scores = ActivPatch("optimal").fit(model, prompts(1), grid, setting()).scores
    assert apart(scores, torch.zeros(grid.shape)) == 0
    differing = ActivPatch("optimal").fit(model, prompts(5), grid, setting()).scores
    assert differing.abs().max() > 1e-3
