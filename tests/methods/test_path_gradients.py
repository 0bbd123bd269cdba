"""PathGradients against its sums, against AttrPatch at one step, and against a plain loop."""

from typing import Any

import pytest
import torch

from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.core.corruption import contrasts
from methods.core.paths import Between
from methods.path_gradients import PathGradients
from tasks.errors import UserInputError
from tests.methods.small import N_LAYERS, apart, grid_of, prompt_scores, prompts, setting, subject


@pytest.mark.parametrize(
    ("corruption", "paths"),
    [("counterfactual", ["inputs", "activations", "joint"]), ("gaussian", ["inputs"])],
)
def test_one_step_is_attribution_patching(corruption: Any, paths: list[Any]) -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["z", "mlp_out"])
    noising, denoising = (
        prompt_scores(AttrPatch(corruption, direction), model, some, grid)
        for direction in ("noising", "denoising")
    )
    for path in paths:
        found = prompt_scores(
            PathGradients(corruption, path=path, steps=1, rule="end"), model, some, grid
        )
        assert apart(found, noising) < 1e-4, path
    if paths[-1] == "joint":  # the others are the same from both runs
        back = PathGradients(corruption, "denoising", path="joint", steps=1, rule="end")
        assert apart(prompt_scores(back, model, some, grid), denoising) < 1e-4
    for settings in ({"path": "clean_corrupted"}, {"path": "conductance", "steps": 1}):
        found = prompt_scores(PathGradients(corruption, **settings), model, some, grid)
        assert apart(found, (noising + denoising) / 2) < 1e-4, settings


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2"])
def test_conductance_over_every_cut_is_the_whole_difference(architecture: str) -> None:
    model, some = subject(architecture, torch.float64), prompts()
    grid = grid_of(model, ["resid_post"], keep_final_residual=True)
    tokens = (some.tokens, some.corrupted)
    clean, corrupted = (some.logit_difference(model.unsteered_logits(of)) for of in tokens)
    found = prompt_scores(PathGradients(path="conductance", steps=40), model, some, grid)
    for layer in range(N_LAYERS):
        total = found[:, 0, layer].sum(dim=-1)
        assert apart(total, clean - corrupted) < 2e-2 * float(total.abs().max())
    # Inner points of the other path through embeddings do not add up to it.
    elsewhere = prompt_scores(PathGradients(path="inputs", steps=10), model, some, grid)
    assert apart(elsewhere[:, 0, 1].sum(dim=-1), clean - corrupted) > 0.1


@pytest.mark.parametrize("corruption", ["counterfactual", "mean"])
def test_sums_of_moved_activations_are_effects_of_patching_them_at_once(corruption: Any) -> None:
    model, some = subject("llama", torch.float64), prompts()
    grid = grid_of(model, ["z", "mlp_out"])
    (contrast,) = contrasts(model, some, grid, corruption, "noising", 0)
    clean = some.logit_difference(model.unsteered_logits(some.tokens))

    def effect(points: Any) -> torch.Tensor:
        with torch.no_grad():
            edit = Between.all_at(grid, contrast.donated, 0.0, points)
            return clean - some.logit_difference(model.logits(some.tokens, edit))

    layers = PathGradients(corruption, path="activations", steps=12)
    found = prompt_scores(layers, model, some, grid)
    for site, layer in grid.site_layers:
        total = found[:, grid.rows(site), layer].sum(dim=(1, 2))
        assert apart(total, effect([(site, layer)])) < 2e-2
    joint = prompt_scores(PathGradients(corruption, path="joint", steps=25), model, some, grid)
    assert apart(joint.sum(dim=(1, 2, 3)), effect(grid.site_layers)) < 2e-2


def test_a_point_alone_in_its_layer_gets_its_own_patch() -> None:
    model, some = subject("gpt2", torch.float64), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out"], [4])
    found = prompt_scores(PathGradients(path="activations", steps=12), model, some, grid)
    assert apart(found, prompt_scores(ActivPatch(), model, some, grid)) < 1e-2


def test_magnitudes_do_not_cancel_between_prompts() -> None:
    model, some = subject("gpt2"), prompts()
    grid = grid_of(model)
    signed, sizes = (
        PathGradients(over_prompts=over).fit(model, some, grid, setting())
        for over in ("signed", "magnitude")
    )
    assert signed.prompt_scores is not None
    assert torch.equal(sizes.scores, signed.prompt_scores.abs().mean(dim=0))
    assert (sizes.scores >= signed.scores.abs() - 1e-6).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"corruption": "zero"}, "needs a corrupted run"),
        ({"direction": "denoising"}, "the same from both runs"),
        ({"path": "conductance", "rule": "middle"}, "takes"),
        ({"path": "clean_corrupted", "rule": "end"}, 'leave "end" out'),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, words: str) -> None:
    with pytest.raises(UserInputError, match=words):
        PathGradients(**settings)
