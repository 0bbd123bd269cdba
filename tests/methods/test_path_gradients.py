"""PathGradients against its sums, against AttrPatch at one step, and against a plain loop."""

from typing import Any

import pytest
import torch

from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.core.corruption import contrasts
from methods.core.paths import Between
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.path_gradients import PathGradients
from tasks.errors import UserInputError
from tests.methods.small import N_LAYERS, grid_of, largest_difference, prompts, setting, subject


def per_prompt(method: Any, model: SubjectModel, some: Prompts, grid: Any) -> torch.Tensor:
    scores = method.fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    return scores


@pytest.mark.parametrize(
    ("corruption", "paths"),
    [("counterfactual", ["inputs", "activations", "joint"]), ("gaussian", ["inputs"])],
)
def test_one_step_is_attribution_patching(corruption: Any, paths: list[Any]) -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["z", "mlp_out"])
    noising, denoising = (
        per_prompt(AttrPatch(corruption, direction), model, some, grid)
        for direction in ("noising", "denoising")
    )
    for path in paths:
        found = per_prompt(
            PathGradients(corruption, path=path, steps=1, rule="end"), model, some, grid
        )
        assert largest_difference(found, noising) < 1e-4, path
    if paths[-1] == "joint":  # the others are the same from both runs
        back = PathGradients(corruption, "denoising", path="joint", steps=1, rule="end")
        assert largest_difference(per_prompt(back, model, some, grid), denoising) < 1e-4
    for settings in ({"path": "clean_corrupted"}, {"path": "conductance", "steps": 1}):
        found = per_prompt(PathGradients(corruption, **settings), model, some, grid)
        assert largest_difference(found, (noising + denoising) / 2) < 1e-4, settings


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2"])
def test_conductance_over_every_cut_is_the_whole_difference(architecture: str) -> None:
    model, some = subject(architecture, torch.float64), prompts()
    grid = grid_of(model, ["resid_post"], keep_final_residual=True)
    tokens = (some.tokens, some.corrupted)
    clean, corrupted = (some.logit_difference(model.unsteered_logits(of)) for of in tokens)
    found = per_prompt(PathGradients(path="conductance", steps=40), model, some, grid)
    for layer in range(N_LAYERS):
        total = found[:, 0, layer].sum(dim=-1)
        assert largest_difference(total, clean - corrupted) < 2e-2 * float(total.abs().max())
    # Inner points of the other path through embeddings do not add up to it.
    elsewhere = per_prompt(PathGradients(path="inputs", steps=10), model, some, grid)
    assert largest_difference(elsewhere[:, 0, 1].sum(dim=-1), clean - corrupted) > 0.1


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
    found = per_prompt(layers, model, some, grid)
    for site, layer in grid.site_layers:
        total = found[:, grid.rows(site), layer].sum(dim=(1, 2))
        assert largest_difference(total, effect([(site, layer)])) < 2e-2
    joint = per_prompt(PathGradients(corruption, path="joint", steps=25), model, some, grid)
    assert largest_difference(joint.sum(dim=(1, 2, 3)), effect(grid.site_layers)) < 2e-2


def test_a_point_alone_in_its_layer_gets_its_own_patch() -> None:
    model, some = subject("gpt2", torch.float64), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out"], [4])
    found = per_prompt(PathGradients(path="activations", steps=12), model, some, grid)
    assert largest_difference(found, per_prompt(ActivPatch(), model, some, grid)) < 1e-2


def plain_scores(some: Prompts, steps: int) -> torch.Tensor:
    """EAP-IG at mlp_out of GPT-2 by hooks on the Hugging Face model, (prompt, layer, position)."""
    model = subject("gpt2").bridge.original_model
    table = model.get_input_embeddings().weight
    ends = [table[ids].detach() for ids in (some.corrupted, some.tokens)]

    def run(embeddings: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        kept: list[torch.Tensor] = []
        handles = [
            layer.mlp.register_forward_hook(lambda module, given, output: kept.append(output))
            for layer in model.transformer.h
        ]
        logits = model(inputs_embeds=embeddings).logits[:, -1]
        for handle in handles:
            handle.remove()
        return kept, some.logit_difference(logits).sum()

    corrupted, clean = (torch.stack(run(end)[0]).detach() for end in ends)
    total = torch.zeros_like(clean)
    for step in range(1, steps + 1):
        embeddings = ends[0] + step / steps * (ends[1] - ends[0])
        kept, ld = run(embeddings.requires_grad_())
        total += torch.stack(torch.autograd.grad(ld, kept))
    return ((clean - corrupted) * total / steps).sum(dim=-1).movedim(0, 1)


def test_inputs_is_what_a_plain_loop_gives() -> None:
    model, some = subject("gpt2"), prompts()
    grid = grid_of(model, ["mlp_out"])
    found = per_prompt(PathGradients(path="inputs", steps=3, rule="end"), model, some, grid)
    theirs = plain_scores(some, 3)
    assert theirs.abs().max() > 0.01
    assert largest_difference(found[:, grid.sites.index(Site.MLP_OUT)], theirs) < 1e-4
    middle = per_prompt(PathGradients(path="inputs", steps=3), model, some, grid)
    assert largest_difference(found, middle) > 1e-3


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
