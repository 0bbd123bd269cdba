"""Controls: values without localisation, from the seed alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from methods.controls import Random, Shuffled, points_that_could_matter
from methods.core.corruption import contrasts
from methods.core.patches import reachable_patches
from methods.core.points import PointGrid, Site
from methods.core.training import initial
from tests.methods.small import FIRST_DIFFERENCE, N_POSITIONS, grid_of, prompts, setting, subject

GRID = PointGrid((Site.MLP_OUT, Site.RESID_POST), 3, tuple(range(N_POSITIONS)), N_POSITIONS)
MATTER = GRID.included & GRID.reaches_answer
MATTER[..., :FIRST_DIFFERENCE] = False


def parent_scores() -> torch.Tensor:
    scores = torch.arange(42.0).reshape(GRID.shape)
    scores[-1, -1, -1] = float("nan")  # the point that is left out
    return scores


def shuffled(seed: int = 0, **settings: Any) -> torch.Tensor:
    method = Shuffled(of="grad_scalar", **settings)
    return method.fit(subject(), prompts(), GRID, setting(seed, parent_scores())).scores


def random(seed: int = 0, **settings: Any) -> torch.Tensor:
    return Random(**settings).fit(subject(), prompts(), GRID, setting(seed)).scores


def test_random_scores_are_normal() -> None:
    grid = PointGrid((Site.ATTN_OUT, Site.MLP_OUT, Site.RESID_POST), 30, tuple(range(20)), 20)
    scores = Random().fit(subject(), prompts(length=20), grid, setting()).scores
    assert scores.shape == grid.shape
    scores = scores[:, :-1, FIRST_DIFFERENCE:]
    assert abs(float(scores.mean())) < 0.1
    assert float(scores.std()) == pytest.approx(1, abs=0.1)
    assert float((scores.abs() > 2).float().mean()) == pytest.approx(0.0455, abs=0.02)


def test_shuffled_scores_are_the_same_values_elsewhere() -> None:
    scores, parent = shuffled(), parent_scores()
    assert sorted(scores[MATTER].tolist()) == sorted(parent[MATTER].tolist())
    moved = (scores != parent)[MATTER]
    assert moved.float().mean() > 0.8


@pytest.mark.parametrize("scores", [random, shuffled])
def test_controls_act_where_runs_differ_and_reach_the_answer(scores: Any) -> None:
    assert torch.equal(scores() != 0, MATTER)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_what_could_matter_is_what_differs_in_the_model(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["q", "k", "v", "z", "attn_out", "mlp_out", "resid_post"])
    (contrast,) = contrasts(model, some, grid, "counterfactual", "noising", 0)
    patches = reachable_patches(model, grid, contrast)
    expected = torch.zeros(grid.shape, dtype=torch.bool)
    expected[patches[:, 1], patches[:, 2], patches[:, 3]] = True
    assert torch.equal(points_that_could_matter(some, grid), expected)
    same = replace(some, corrupted=some.tokens)
    assert torch.equal(points_that_could_matter(same, grid), grid.included), "where nothing differs"


@pytest.mark.parametrize("scores", [random, shuffled])
def test_draws_and_seeds_differ_and_reproduce(scores: Any) -> None:
    all_draws = [scores(seed, draw=draw) for seed in (0, 1) for draw in range(5)]
    for n, one in enumerate(all_draws):
        for other in all_draws[n + 1 :]:
            assert not torch.equal(one, other)
    assert torch.equal(scores(1, draw=4), all_draws[-1])


def test_shuffled_needs_scores() -> None:
    with pytest.raises(ValueError, match='needs the scores of "grad_scalar"'):
        Shuffled(of="grad_scalar").fit(subject(), prompts(), GRID, setting())


def test_a_control_does_not_repeat_what_training_starts_from() -> None:
    model, some = subject(), prompts()
    grid = grid_of(model)
    drawn = Random().fit(model, some, grid, setting()).scores
    assert not torch.allclose(drawn, initial(grid.shape, 1.0, 0))
