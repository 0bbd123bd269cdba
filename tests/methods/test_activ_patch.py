"""ActivPatch against TransformerLens's own patching functions, and what holds of it exactly."""

from itertools import product
from typing import Any

import pandas as pd
import pytest
import torch
from transformer_lens import patching

from bench.models.tiny import ARCHITECTURES
from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.core.points import HEAD_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.methods.lens import activation, cache_of, full_logits, metric_of, runs_of
from tests.methods.small import (
    FIRST_DIFFERENCE,
    N_LAYERS,
    SERIAL,
    apart,
    grid_of,
    in_turn,
    prompt_scores,
    prompts,
    setting,
    subject,
)

DIRECTIONS = ("noising", "denoising")
# resid_post of a layer is resid_pre of the next one.
THEIRS = {
    Site.ATTN_OUT: (patching.get_act_patch_attn_out, 0),
    Site.MLP_OUT: (patching.get_act_patch_mlp_out, 0),
    Site.RESID_POST: (patching.get_act_patch_resid_pre, 1),
    Site.Z: (patching.get_act_patch_attn_head_out_by_pos, 0),
    Site.V: (patching.get_act_patch_attn_head_v_by_pos, 0),
    Site.Q: (patching.get_act_patch_attn_head_q_by_pos, 0),
    Site.K: (patching.get_act_patch_attn_head_k_by_pos, 0),
}
HEADS = {"gpt2": ["z", "q"], "llama": ["v", "k"], "gemma3": ["q", "k"]}
"""Heads in one matrix, grouped heads, and queries with a norm; more in tests/architectures."""


def by_transformer_lens(
    model: SubjectModel, some: Prompts, direction: str, grid: PointGrid, site: Site
) -> torch.Tensor:
    """(point, prompt) of a site: what is returned are patched LDs; SPEC trap 8 says the sign."""
    (function, shift), metric = THEIRS[site], metric_of(some)
    receiver, donor, sign = runs_of(some, direction)
    axes: dict[str, Any] = {"layer": range(shift, N_LAYERS), "pos": grid.positions}
    if site in HEAD_SITES:
        axes["head"] = range(len(grid.places[grid.rows(site)]))
    with torch.no_grad():
        patched = function(
            model.bridge,
            receiver,
            cache_of(model, donor),
            metric,
            index_axis_names=None,
            index_df=pd.DataFrame(product(*axes.values()), columns=list(axes)),
            reduce="none",
        ).values
    return sign * (metric(full_logits(model, receiver)) - patched)


@pytest.mark.parametrize(("architecture", "direction"), in_turn(ARCHITECTURES, DIRECTIONS))
def test_is_transformer_lens_patching(architecture: str, direction: Any) -> None:
    """The last layer's residual is none of theirs: there the whole of the other run arrives."""
    model, some = subject(architecture), prompts()
    sites = ["attn_out", "mlp_out", "resid_post", *HEADS.get(architecture, [])]
    grid = grid_of(model, sites, [FIRST_DIFFERENCE, 3, 6], keep_final_residual=True)
    scores = prompt_scores(ActivPatch(direction=direction), model, some, grid)
    for site in grid.sites:
        theirs = by_transformer_lens(model, some, direction, grid, site)
        ours = scores[:, grid.rows(site), : N_LAYERS - THEIRS[site][1]]
        assert theirs.abs().max() > 0.02
        assert apart(ours.permute(2, 3, 1, 0).flatten(0, 2), theirs) < 1e-4
    last = scores[:, grid.rows(Site.RESID_POST), -1][:, 0]
    clean, corrupted = (
        some.logit_difference(model.unsteered_logits(t)) for t in (some.tokens, some.corrupted)
    )
    assert apart(last[:, -1], clean - corrupted) < 1e-4
    assert last[:, :-1].abs().max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "direction", "site", "corruption"),
    [
        *((*one, "resid_mid", "counterfactual") for one in in_turn(SERIAL, DIRECTIONS)),
        ("gpt2", "noising", "mlp_out", "zero"),
        ("gpt2", "noising", "mlp_out", "mean"),
    ],
)
def test_patches_that_are_not_theirs_are_edits_by_hand(
    architecture: str, direction: Any, site: str, corruption: Any
) -> None:
    """resid_mid = resid_pre + attn_out, so its change can be carried by attn_out."""
    model, some = subject(architecture), prompts()
    grid = grid_of(model, [site], [3, 4, 6])
    scores = prompt_scores(ActivPatch(corruption, direction), model, some, grid)
    receiver, donor, sign = runs_of(some, direction)
    (ours, other), metric = (cache_of(model, t) for t in (receiver, donor)), metric_of(some)
    for layer, (index, at) in product(range(N_LAYERS), enumerate(grid.positions)):
        h = activation(ours, Site(site), layer)
        baselines = {"zero": torch.zeros_like(h), "mean": h.mean(dim=0).expand_as(h)}
        change = torch.zeros_like(h)
        put = baselines.get(corruption, activation(other, Site(site), layer))
        change[:, at] = (put - h)[:, at]
        name = f"blocks.{layer}.hook_{'attn_out' if site == 'resid_mid' else site}"
        hook = (name, lambda h, hook, change=change: h + change)
        lost = metric(full_logits(model, receiver)) - metric(full_logits(model, receiver, [hook]))
        assert apart(scores[:, 0, layer, index], sign * lost) < 1e-4
    assert scores.abs().max() > 0.1


@pytest.mark.parametrize(("architecture", "direction"), in_turn(ARCHITECTURES, DIRECTIONS))
def test_the_same_prefix_scores_zero_and_is_not_run(architecture: str, direction: Any) -> None:
    model, some = subject(architecture, rows_per_forward=5), prompts()
    grid = grid_of(model)
    scores = prompt_scores(ActivPatch(direction=direction), model, some, grid)
    assert torch.all(scores[..., :FIRST_DIFFERENCE] == 0)
    assert torch.all(scores[..., FIRST_DIFFERENCE:].abs().amax(dim=(0, 1, 2)) > 0)
    # Points behind the prefix may be spared too, where a change of the tokens has not arrived yet.
    differing = int(grid.included[..., FIRST_DIFFERENCE:].sum()) * len(some)
    three_activations_and_one_ld = 4 * len(some)
    assert 0.7 * differing < model.passes.forward <= differing + three_activations_and_one_ld
    assert model.passes.backward == 0


@pytest.mark.parametrize(
    ("architecture", "method"), in_turn(ARCHITECTURES, [ActivPatch, AttrPatch])
)
def test_identical_prompts_score_exactly_zero(method: Any, architecture: str) -> None:
    """Also against their mean: of three equal floats it is that float only if taken with care."""
    model, some = subject(architecture), prompts().take([0, 0, 0])
    same = Prompts(some.tokens, some.tokens, some.answers, some.foils, some.has_bos)
    for settings in ({}, {"direction": "denoising"}, {"corruption": "mean"}):
        assert torch.all(prompt_scores(method(**settings), model, same, grid_of(model)) == 0)


def test_parallel_blocks_refuse_resid_mid() -> None:
    model = subject("gpt_neox")
    message = r"resid_mid does not exist .* it has q, k, v, z, o, attn_out"
    with pytest.raises(UserInputError, match=message):
        ActivPatch().fit(model, prompts(), grid_of(model, ["resid_mid"]), setting())
