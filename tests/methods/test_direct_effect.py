"""DirectEffect against runs that hold every later layer, and against DLA's strict form."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.direct_effect import DirectEffect
from methods.dla import DLA
from tests.methods.lens import cache_of, full_logits, metric_of, runs_of
from tests.methods.small import apart, grid_of, in_turn, prompt_scores, prompts, setting, subject


def by_holding(model: SubjectModel, some: Prompts, grid: PointGrid, direction: str) -> Tensor:
    """The direct effect at the answer position from one run a point, (prompt, place, layer).

    The point comes from the other run, and every later attention and MLP gives what it gave.
    """
    parallel = bool(model.bridge.cfg.parallel_attn_mlp)
    receiver, donor, sign = runs_of(some, direction)
    (ours, theirs), metric = (cache_of(model, t) for t in (receiver, donor)), metric_of(some)
    ld, scores = metric(full_logits(model, receiver)), torch.zeros(len(some), *grid.shape[:2])
    for (row, place), layer in product(enumerate(grid.places), range(model.n_layers)):
        name = f"blocks.{layer}.{'attn.hook_z' if place.site is Site.Z else f'hook_{place.site}'}"
        at = (slice(None), -1, *([] if place.head is None else [place.head]))

        def put(h: Tensor, hook: Any, name: str = name, at: Any = at) -> Tensor:
            h = h.clone()
            h[at] = theirs[name][at]
            return h

        later = [
            f"blocks.{n}.hook_{s}" for n in range(layer + 1, 3) for s in ("attn_out", "mlp_out")
        ]
        if place.site is not Site.MLP_OUT and not parallel:
            later.append(f"blocks.{layer}.hook_mlp_out")
        hooks = [(name, put), *((one, lambda h, hook, one=one: ours[one]) for one in later)]
        scores[:, row, layer] = sign * (ld - metric(full_logits(model, receiver, hooks)))
    return scores


@pytest.mark.parametrize(
    ("architecture", "direction"), in_turn(["gpt2", "gpt_neox", "gemma2"], ["noising", "denoising"])
)
def test_is_a_patch_with_every_later_layer_held(architecture: str, direction: Any) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["z", "attn_out", "mlp_out"], [4, 6])
    found = prompt_scores(DirectEffect(direction=direction), model, some, grid)
    theirs = by_holding(model, some, grid, direction)
    assert theirs.abs().max() > 0.1
    assert apart(found[..., 1], theirs) < 1e-4
    assert torch.all(found[..., 0] == 0)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_with_the_scale_held_it_is_strict_direct_logit_attribution(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["z", "o", "attn_out", "mlp_out"], "every")
    held = DirectEffect("zero", scale="held").fit(model, some, grid, setting())
    strict = DLA(form="strict").fit(model, some, grid, setting())
    assert strict.scores.abs().max() > 0.1
    assert apart(held.scores, strict.scores) < 1e-4
    live = DirectEffect("zero").fit(model, some, grid, setting())
    assert apart(live.scores, strict.scores) > 0.1


def test_against_a_counterfactual_it_is_a_difference_of_two_attributions() -> None:
    """All parts of the stream together: the change of LD at the receiver's scale."""
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["resid_post"], "last", keep_final_residual=True)
    swapped = Prompts(some.corrupted, some.tokens, some.answers, some.foils, some.has_bos)
    found = prompt_scores(DirectEffect(scale="held"), model, some, grid)
    ours, theirs = (prompt_scores(DLA(form="strict"), model, of, grid) for of in (some, swapped))
    final = (Site.RESID_POST, model.n_layers - 1)
    sizes = [
        model.activations(tokens, [final])[final][:, -1].square().mean(dim=-1).add(1e-6).sqrt()
        for tokens in (some.tokens, some.corrupted)
    ]
    at_our_scale = theirs[:, 0, -1, 0] * sizes[1] / sizes[0]
    assert apart(found[:, 0, -1, 0], ours[:, 0, -1, 0] - at_our_scale) < 1e-4
