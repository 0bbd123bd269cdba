"""Bounds from random sets of patched points, where effects add up and are known."""

import torch

from methods.activ_patch import ActivPatch
from methods.atp_star import AtPStar
from methods.core.corruption import contrasts
from methods.core.subsets import effect_bounds, subset_effects
from tests.methods.small import apart, grid_of, prompts, setting, subject
from tests.methods.test_attr_patch import linear


def test_a_set_of_one_point_is_its_patch() -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["z"], [4, 6])
    (contrast,) = contrasts(model, some, grid, "counterfactual", "denoising", 0)
    exact = ActivPatch(direction="denoising").fit(model, some, grid, setting()).scores
    points = [(0, 0, 0), (3, 1, 1), (2, 2, 1)]
    kept = torch.ones(len(points), *grid.shape)
    for row, point in enumerate(points):
        kept[(row, *point)] = 0
    found = subset_effects(model, contrast, grid, kept)
    assert apart(found, torch.stack([exact[point] for point in points])) < 1e-4


def test_bounds_hold_where_effects_add_up() -> None:
    model, some = linear("llama", attends=True), prompts()
    grid = grid_of(model, ["v"], "all")
    (contrast,) = contrasts(model, some, grid, "counterfactual", "noising", 0)
    exact = ActivPatch().fit(model, some, grid, setting()).scores.abs()
    bounds = effect_bounds(model, contrast, grid, n_subsets=60, share=0.3, confidence=0.95, seed=0)
    assert float(exact.max()) > 0.05
    assert float((bounds >= exact).float().mean()) > 0.8
    assert float(bounds.max()) < 3 * float(exact.max())


def test_the_method_stores_its_bounds_and_says_what_may_be_missed() -> None:
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["z"], "last")
    found = AtPStar(subsets=40).fit(model, some, grid, setting())
    assert found.extras["bound"].shape == grid.shape
    (note,) = found.notes
    assert "40 random sets" in note
    assert torch.equal(found.scores, AtPStar().fit(model, some, grid, setting()).scores)
