"""Resumed runs against stacked ones, which run every patch through the whole model."""

import logging
from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES, tiny_bridge
from methods.activ_patch import patch_scores
from methods.core.corruption import Corruption, Direction, contrasts
from methods.core.patches import reachable_patches
from methods.core.points import SHARED_SITES, PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.resumed import CannotResumeError, ResumedRun
from methods.core.stacked import StackedRun
from methods.core.subject import SubjectModel
from tests.methods.small import FIRST_DIFFERENCE, N_POSITIONS, grid_of, in_turn, prompts


def all_points(subject: SubjectModel, positions: Any = "every") -> PointGrid:
    return grid_of(subject, subject.sites, positions, keep_final_residual=True)


CONTRASTS = (
    ("counterfactual", "noising"),
    ("counterfactual", "denoising"),
    ("zero", "noising"),
    ("gaussian", "denoising"),
)


@pytest.mark.parametrize(
    ("architecture", "contrast"), [*in_turn(ARCHITECTURES, CONTRASTS), ("llama", CONTRASTS[0])]
)
@torch.no_grad()
def test_every_patch_has_the_same_logit_difference(
    architecture: str, contrast: tuple[Corruption, Direction]
) -> None:
    subject = SubjectModel(tiny_bridge(architecture), rows_per_forward=61)
    grid = all_points(subject, [0, 2, 5, 6])
    run = contrasts(subject, prompts(), grid, *contrast, 0)[0]
    patches = reachable_patches(subject, grid, run)
    resumed = ResumedRun(subject, grid, run)
    stacked = StackedRun(subject, grid, run)
    expected = stacked.logit_differences(patches)
    torch.testing.assert_close(resumed.logit_differences(patches), expected, atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(resumed.unpatched, stacked.unpatched, atol=1e-5, rtol=1e-5)
    assert (expected - stacked.unpatched[patches[:, 0]]).abs().max() > 0.1


@torch.no_grad()
def test_patches_that_reach_nothing_are_not_run() -> None:
    """Before the corrupted token, and in the last layer before the answer position (keys and values
    apart, which the answer position reads)."""
    subject = SubjectModel(tiny_bridge("llama"))
    grid = all_points(subject)
    contrast = contrasts(subject, prompts(), grid, "counterfactual", "noising", 0)[0]
    patches = reachable_patches(subject, grid, contrast)
    assert patches[:, 3].min() == FIRST_DIFFERENCE
    last = patches[patches[:, 2] == grid.n_layers - 1]
    values = {row for row, place in enumerate(grid.places) if place.site in SHARED_SITES}
    read = torch.tensor([place in values for place in last[:, 1].tolist()])
    assert set(last[~read, 3].tolist()) == {N_POSITIONS - 1}
    assert set(last[read, 3].tolist()) == set(range(FIRST_DIFFERENCE, N_POSITIONS))
    # The others would change nothing: run in full, the logit difference stays to the bit.
    every = [[0, place, grid.n_layers - 1, 4] for place in range(len(grid.places))]
    stacked = StackedRun(subject, grid, contrast)
    change = (stacked.logit_differences(torch.tensor(every)) - stacked.unpatched[0]).abs()
    is_value = torch.tensor([place in values for place in range(len(grid.places))])
    assert change[~is_value].max() < 1e-6
    assert change[is_value].min() > 1e-4


@torch.no_grad()
def test_a_model_that_cannot_be_resumed_is_stacked_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    subject = SubjectModel(tiny_bridge("gpt2"))
    grid = all_points(subject, "last")
    contrast = contrasts(subject, prompts(), grid, "counterfactual", "noising", 0)[0]
    expected = patch_scores(subject, grid, contrast)
    real = ResumedRun._read
    monkeypatch.setattr(ResumedRun, "_read", lambda *a: real(*a) + 1)  # numbers that are wrong
    with pytest.raises(CannotResumeError, match="logit differences"):
        ResumedRun(subject, grid, contrast)
    with caplog.at_level(logging.WARNING):
        found = patch_scores(subject, grid, contrast)
    assert "GPT2LMHeadModel cannot be resumed" in caplog.text
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-5)


@torch.no_grad()
def test_resuming_leaves_nothing_behind() -> None:
    bridge = tiny_bridge("qwen2")
    subject = SubjectModel(bridge)
    grid = all_points(subject)
    contrast = contrasts(subject, prompts(), grid, "counterfactual", "noising", 0)[0]
    subject.logits(prompts().tokens)  # the bridge wires hooks of its own at the first forward
    for module in bridge.modules():  # as some adapters do
        vars(module)["forward"] = module.forward
    before = [len(module._forward_pre_hooks) for module in bridge.modules()]
    own = [(sorted(vars(module)), module.forward) for module in bridge.modules()]
    ResumedRun(subject, grid, contrast).logit_differences(
        reachable_patches(subject, grid, contrast)
    )
    assert before == [len(module._forward_pre_hooks) for module in bridge.modules()]
    assert own == [(sorted(vars(module)), module.forward) for module in bridge.modules()]
    assert not any(point.fwd_hooks for point in bridge.hook_dict.values())


@pytest.mark.parametrize(("n_layers", "n_positions"), [(3, 9), (5, 6)])
@torch.no_grad()
def test_a_sweep_costs_a_quarter_of_the_layer_tokens_of_whole_runs(
    n_layers: int, n_positions: int
) -> None:
    """Per prompt and site L(L+1)/2 x I(I+1)/2 layer-tokens instead of L^2 I^2, counted in the
    blocks; patches of the last layer at other positions than the answer's are not even run, nor is
    any block to see how the model calls it."""
    bridge = tiny_bridge("llama", n_layers=n_layers)
    subject = SubjectModel(bridge, rows_per_forward=4)
    tokens = torch.randint(1, 60, (2, n_positions), generator=torch.Generator().manual_seed(0))
    some = Prompts(tokens, (tokens + 1) % 60, torch.tensor([5, 6]), torch.tensor([8, 9]), False)
    grid = make_grid(
        ["mlp_out"], "every", n_layers=n_layers, n_positions=n_positions, has_bos=False
    )
    contrast = contrasts(subject, some, grid, "zero", "noising", 0)[0]
    patches = reachable_patches(subject, grid, contrast)
    run = ResumedRun(subject, grid, contrast)
    counted = []

    def count(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        counted.append(arguments[0].shape[0] * arguments[0].shape[1])

    handles = [block.ln1.register_forward_pre_hook(count) for block in bridge.blocks]
    run.logit_differences(patches)
    for handle in handles:
        handle.remove()
    per_prompt = n_layers * (n_layers + 1) // 2 * n_positions * (n_positions + 1) // 2
    not_run = n_positions * (n_positions + 1) // 2 - 1
    assert sum(counted) == 2 * (per_prompt - not_run)
    assert len(patches) == 2 * (n_layers * n_positions - (n_positions - 1))
