"""Rules and moved layers on the embedded model, against its modules without a bridge: written anew
by the papers, cut off by hooks on gradients, or moved by hooks on activations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.plain_model import LAST, POINTS, WIDE, Setup, gradients, in_order, near, plain
from tests.methods.plain_rules import rewritten
from tests.methods.small import apart


def first_order(real: Setup, slopes: dict[tuple[str, int], Tensor]) -> Tensor:
    """(h_clean - h_corrupted) . g at the last position."""
    clean, corrupted = real.clean, real.corrupted
    return in_order(lambda *at: ((clean.last(*at) - corrupted.last(*at)) * slopes[at]).sum(dim=-1))


@pytest.mark.parametrize("rules", ["relp", "attn_lrp", "cp_lrp", "gim"])
def test_rules_are_those_of_modules_written_by_the_papers(real: Setup, rules: str) -> None:
    with rewritten(rules):
        run, slopes = gradients(real, real.some.tokens, {})
    assert apart(run.logits, real.clean.logits) < 1e-3  # the forward is the model's
    found = real.prompt_scores(real.grid(*WIDE), "local_rules", rules=rules)
    near(found, first_order(real, slopes))


def test_graddrop_is_a_backward_a_layer_that_does_not_pass_through_it(real: Setup) -> None:
    """One graph, whose gradients at what one layer adds are set to 0 from backward to backward."""
    dropped = -1

    def watched(layer: int) -> Any:
        def edit(h: Tensor) -> Tensor:
            h = h + torch.zeros_like(h, requires_grad=True)
            h.register_hook(lambda g: g * (layer != dropped))
            return h

        return edit

    with torch.enable_grad():
        run = plain(real.bare, real.some.tokens, {point: watched(point[1]) for point in POINTS})
        ld, at = real.ld(run.logits).sum(), [run.seen[point] for point in POINTS]

        def scores(layer: int) -> Tensor:
            nonlocal dropped
            dropped = layer
            slopes = torch.autograd.grad(ld, at, retain_graph=True)
            last = {point: g[:, -1] for point, g in zip(POINTS, slopes, strict=True)}
            return first_order(real, last).detach()

        ordinary = scores(-1)
        each = torch.stack([scores(layer).abs() for layer in range(LAST + 1)])
    own = torch.eye(LAST + 1, dtype=torch.bool)[:, None, None, :, None]
    size = each.masked_fill(own, 0).sum(dim=0) / LAST
    found = real.prompt_scores(real.grid(*WIDE), "local_rules", rules="none", drop=True)
    near(found, ordinary.sign() * size)


def test_activations_of_a_layer_move_together(real: Setup) -> None:
    clean, corrupted = real.clean, real.corrupted
    grid = real.grid("mlp_out", positions=[-2, -1])
    found = real.prompt_scores(grid, "path_gradients", path="activations", steps=1)
    for layer in (0, 13, LAST):
        point = ("mlp_out", layer)
        ours, theirs = (run.seen[point][:, -2:] for run in (clean, corrupted))
        middle = ((ours + theirs) / 2).requires_grad_()
        with torch.enable_grad():
            edits = {point: lambda h, middle=middle: torch.cat([h[:, :-2], middle], dim=1)}
            run = plain(real.bare, real.some.tokens, edits)
            (slope,) = torch.autograd.grad(real.ld(run.logits).sum(), middle)
        near(found[:, 0, layer], ((ours - theirs) * slope).sum(dim=-1))


def test_clean_corrupted_is_the_mean_slope_of_both_ends(real: Setup) -> None:
    ends = [gradients(real, tokens, {})[1] for tokens in (real.some.tokens, real.some.corrupted)]
    mean = {point: (ends[0][point] + ends[1][point]) / 2 for point in ends[0]}
    found = real.prompt_scores(real.grid(*WIDE), "path_gradients", path="clean_corrupted")
    near(found, first_order(real, mean))
