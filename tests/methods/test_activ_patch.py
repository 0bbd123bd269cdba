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
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.methods.small import (
    FIRST_DIFFERENCE,
    SERIAL,
    activation,
    cache_of,
    full_logits,
    grid_of,
    in_turn,
    largest_difference,
    metric_of,
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
}


def their_scores(
    model: SubjectModel, some: Prompts, direction: str, points: dict[Site, pd.DataFrame]
) -> dict[Site, torch.Tensor]:
    """(prompt, point) by site: TransformerLens returns patched LDs; SPEC trap 8 says the sign."""
    metric = metric_of(some)
    receiver, donor = some.tokens, some.corrupted
    if direction == "denoising":
        receiver, donor = donor, receiver
    cache = cache_of(model, donor)
    unpatched = metric(full_logits(model, receiver))[:, None]
    found = {}
    for site, (function, shift) in THEIRS.items():
        with torch.no_grad():
            patched = function(
                model.bridge,
                receiver,
                cache,
                metric,
                index_axis_names=None,
                index_df=points[site].assign(layer=points[site].layer + shift),
                reduce="none",
            ).values.T
        found[site] = unpatched - patched if direction == "noising" else patched - unpatched
    return found


@pytest.mark.parametrize(("architecture", "direction"), in_turn(ARCHITECTURES, DIRECTIONS))
def test_is_transformer_lens_patching(architecture: str, direction: Any) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, THEIRS)
    scores = ActivPatch(direction=direction).fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    positions = [FIRST_DIFFERENCE, 3, 6]  # before that all is 0
    points = {
        site: pd.DataFrame(
            product(range(grid.n_layers - shift), positions), columns=["layer", "pos"]
        )
        for site, (_, shift) in THEIRS.items()
    }
    for site, theirs in their_scores(model, some, direction, points).items():
        ours = scores[:, grid.sites.index(site), : grid.n_layers - THEIRS[site][1]]
        ours = ours[..., positions].flatten(1)
        assert theirs.abs().max() > 0.1
        assert largest_difference(ours, theirs) < 1e-4


def test_is_transformer_lens_patching_on_smollm2(smollm2: Any) -> None:
    model = SubjectModel(smollm2.bridge)
    texts = ("The capital of France is", "The capital of Germany is", " Paris", " Berlin")
    clean, corrupted, answer, foil = (
        torch.tensor([smollm2.tokenizer.encode(text, add_special_tokens=False)]) for text in texts
    )
    some = Prompts(clean, corrupted, answer[:, 0], foil[:, 0], has_bos=False)
    grid = grid_of(model, THEIRS, [3, -1], clean.shape[1])
    scores = ActivPatch().fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    points = pd.DataFrame([(0, 3), (14, 4), (28, 4)], columns=["layer", "pos"])
    at = [grid.positions.index(position) for position in points.pos]
    found = their_scores(model, some, "noising", dict.fromkeys(THEIRS, points))
    for site, theirs in found.items():
        ours = scores[:, grid.sites.index(site), points.layer.tolist(), at]
        assert theirs.abs().max() > 0.05
        assert largest_difference(ours, theirs) < 1e-4


@pytest.mark.parametrize(("architecture", "direction"), in_turn(SERIAL, DIRECTIONS))
def test_patching_resid_mid_is_an_edit_of_attn_out_by_hand(
    architecture: str, direction: Any
) -> None:
    """resid_mid = resid_pre + attn_out, so its change can be carried by attn_out."""
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["resid_mid"], [3, 4, 6])
    scores = ActivPatch(direction=direction).fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    runs = {"clean": some.tokens, "corrupted": some.corrupted}
    receiver, donor = ("clean", "corrupted") if direction == "noising" else ("corrupted", "clean")
    ours, other = cache_of(model, runs[receiver]), cache_of(model, runs[donor])
    unpatched = metric_of(some)(full_logits(model, runs[receiver]))
    for layer in range(grid.n_layers):
        change = activation(other, Site.RESID_MID, layer) - activation(ours, Site.RESID_MID, layer)
        for index, position in enumerate(grid.positions):

            def by_hand(h: Any, hook: Any, change: Any = change, position: int = position) -> Any:
                h = h.clone()
                h[:, position] += change[:, position]
                return h

            name = f"blocks.{layer}.hook_attn_out"
            patched = metric_of(some)(full_logits(model, runs[receiver], [(name, by_hand)]))
            expected = unpatched - patched if direction == "noising" else patched - unpatched
            assert largest_difference(scores[:, 0, layer, index], expected) < 1e-4
    assert scores.abs().max() > 0.1


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_last_residual_at_the_answer_decides_everything(direction: Any) -> None:
    """Closed form: with it, the whole of the other run arrives; elsewhere nothing is left to do."""
    model, some = subject(), prompts()
    grid = grid_of(model, ["resid_post"], keep_final_residual=True)
    scores = ActivPatch(direction=direction).fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    metric = metric_of(some)
    clean, corrupted = (metric(full_logits(model, t)) for t in (some.tokens, some.corrupted))
    assert largest_difference(scores[:, 0, -1, -1], clean - corrupted) < 1e-4
    assert scores[:, 0, -1, :-1].abs().max() < 1e-5


@pytest.mark.parametrize(("architecture", "direction"), in_turn(ARCHITECTURES, DIRECTIONS))
def test_the_same_prefix_scores_zero_and_is_not_run(architecture: str, direction: Any) -> None:
    model, some = subject(architecture, rows_per_forward=5), prompts()
    grid = grid_of(model)
    scores = ActivPatch(direction=direction).fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
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
        found = method(**settings).fit(model, same, grid_of(model), setting())
        assert torch.all(found.scores == 0)
        assert found.prompt_scores is not None
        assert torch.all(found.prompt_scores == 0)


@pytest.mark.parametrize("corruption", ["zero", "mean"])
def test_baselines_are_put_into_the_clean_run(corruption: Any) -> None:
    model, some = subject(), prompts()
    grid = grid_of(model, ["mlp_out"])
    scores = ActivPatch(corruption=corruption).fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    clean = cache_of(model, some.tokens)
    metric = metric_of(some)
    for layer in range(grid.n_layers):
        h = clean[f"blocks.{layer}.hook_mlp_out"]
        baseline = torch.zeros_like(h) if corruption == "zero" else h.mean(0).expand_as(h)
        for position in range(1, 7):

            def put(h: Any, hook: Any, baseline: Any = baseline, at: int = position) -> Any:
                h = h.clone()
                h[:, at] = baseline[:, at]
                return h

            patched = metric(
                full_logits(model, some.tokens, [(f"blocks.{layer}.hook_mlp_out", put)])
            )
            expected = metric(full_logits(model, some.tokens)) - patched
            assert largest_difference(scores[:, 0, layer, position], expected) < 1e-4


def test_parallel_blocks_refuse_resid_mid() -> None:
    model = subject("gpt_neox")
    grid = grid_of(model, ["resid_mid"])
    message = r"resid_mid does not exist .* it has q, k, v, z, o, attn_out"
    with pytest.raises(UserInputError, match=message):
        ActivPatch().fit(model, prompts(), grid, setting())
