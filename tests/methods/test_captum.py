"""Captum's algorithms against patches, gradients, sums, and Shapley values counted by hand."""

import sys
from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor

from methods.activ_patch import ActivPatch
from methods.captum import Captum
from methods.core.corruption import contrasts
from methods.core.groups import GroupFunction, groups_of
from methods.core.paths import Between
from methods.core.points import PointGrid
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from methods.path_gradients import PathGradients
from tasks.errors import UserInputError
from tests.methods.small import apart, grid_of, prompt_scores, prompts, subject


def scores_of(method: Any, model: SubjectModel, grid: PointGrid) -> Tensor:
    return prompt_scores(method, model, prompts(), grid)


def function_of(
    model: SubjectModel, grid: PointGrid, corruption: Any, grouping: Any, prompt: int = 0
) -> Callable[[Tensor], Tensor]:
    """G of one prompt."""
    (contrast,) = contrasts(model, prompts(), grid, corruption, "noising", 0)
    found = GroupFunction(model, grid, contrast, groups_of(grid, grouping))
    return lambda gammas: found(gammas, torch.full((len(gammas),), prompt))


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2"])
def test_ablation_of_single_points_is_activation_patching(architecture: str) -> None:
    model = subject(architecture)
    grid = grid_of(model, ["k", "z", "mlp_out"], [4, 6])
    for ours, theirs in (
        (Captum(direction="noising"), ActivPatch()),
        (Captum(direction="denoising"), ActivPatch(direction="denoising")),
        (Captum(function="scalars"), ActivPatch("zero")),
        (Captum(corruption="mean"), ActivPatch("mean")),
    ):
        settings = {"algorithm": "feature_ablation", "group": "point", "force": True}
        found = scores_of(type(ours)(**{**vars(ours), **settings}), model, grid)
        exact = scores_of(theirs, model, grid)
        assert exact.abs().max() > 0.05
        assert apart(found, exact) < 1e-5


def test_the_slope_of_the_function_of_scalars_is_grad_scalar() -> None:
    model = subject("llama")
    grid = grid_of(model, ["v", "z", "mlp_out", "resid_post"], [3, 6])
    expected = scores_of(GradScalar(), model, grid)
    for prompt, of_prompt in enumerate(expected):
        function = function_of(model, grid, "zero", "point", prompt)
        ones = torch.ones(1, grid.n_points, requires_grad=True)
        found = Saliency(function).attribute(ones, abs=False)
        assert apart(found[0], of_prompt[grid.included]) < 1e-5


@pytest.mark.parametrize(("function", "group"), [("scalars", "layer"), ("patches", "position")])
def test_scores_add_up_to_the_change_of_all_groups(function: Any, group: Any) -> None:
    model = subject("gpt2")
    grid = grid_of(model, ["z", "mlp_out"])
    corruption = "zero" if function == "scalars" else "counterfactual"
    (contrast,) = contrasts(model, prompts(), grid, corruption, "noising", 0)
    with torch.no_grad():
        patched = Between.all_at(grid, contrast.donated, 0.0, grid.site_layers)
        change = prompts().logit_difference(
            model.unsteered_logits(prompts().tokens) - model.logits(prompts().tokens, patched)
        )
    for algorithm, samples, near in (
        ("shapley_sampling", 2, 1e-4),
        ("kernel_shap", 40, 1e-3),
        ("integrated_gradients", 32, 2e-3),
        ("gradient_shap", 200, 0.3),
    ):
        method = Captum(function, algorithm, group, samples)  # type: ignore[arg-type]
        total = scores_of(method, model, grid).sum(dim=(1, 2, 3))
        assert apart(total, change) < near * float(change.abs().max()), algorithm


def by_counting(function: Callable[[Tensor], Tensor], n_groups: int) -> Tensor:
    """Shapley values from all sets of groups."""
    values = torch.zeros(n_groups)
    for group in range(n_groups):
        others = [one for one in range(n_groups) if one != group]
        for size in range(n_groups):
            for chosen in combinations(others, size):
                rows = torch.zeros(2, n_groups)
                rows[:, list(chosen)] = 1
                rows[1, group] = 1
                without, with_it = function(rows)
                values[group] += (with_it - without) / n_groups / comb(n_groups - 1, size)
    return values


def test_shapley_values_are_those_counted_over_all_sets() -> None:
    model = subject("gemma2")
    grid = grid_of(model, ["z"], "every")
    exact = by_counting(function_of(model, grid, "counterfactual", "layer"), 3)
    assert exact.abs().min() > 0.01
    for algorithm in ("kernel_shap", "shapley_sampling"):
        method = Captum(algorithm=algorithm, samples=200)  # type: ignore[arg-type]
        found = prompt_scores(method, model, prompts().take([0]), grid)[0].sum(dim=(0, 2))
        assert apart(found, exact) < 0.1 * float(exact.abs().max())


def test_integrated_gradients_of_single_points_is_the_joint_path() -> None:
    model = subject("llama")
    grid = grid_of(model, ["attn_out", "mlp_out"], [2, 4, 6])
    joint = scores_of(PathGradients(path="joint", steps=4), model, grid)
    theirs = IntegratedGradients(function_of(model, grid, "counterfactual", "point"))
    found = theirs.attribute(torch.ones(1, grid.n_points), n_steps=4, method="riemann_middle")
    assert apart(found[0], joint[0][grid.included]) < 1e-5
    assert joint.abs().max() > 0.05


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"group": "point"}, "more than 64"),
        ({"algorithm": "kernel_shap", "samples": 11}, "at least 12"),
        ({"function": "scalars", "corruption": "mean"}, "clean run alone"),
        ({"algorithm": "feature_ablation", "samples": 3}, "once"),
    ],
)
def test_what_would_take_too_long_or_say_nothing_is_refused(settings: Any, words: str) -> None:
    model = subject("gpt2")
    with pytest.raises(UserInputError, match=words):
        scores_of(Captum(**settings), model, grid_of(model, ["z", "mlp_out"]))


@pytest.mark.parametrize("missing", ["captum.attr", "sklearn"])
def test_a_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    model = subject("gpt2")
    with pytest.raises(UserInputError, match=r"pip install .*captum"):
        scores_of(Captum(samples=1), model, grid_of(model, ["mlp_out"]))
