"""Probe against scikit-learn's ridge classifier, and on activations that say all or nothing."""

from typing import Any

import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from methods.core.points import Site
from methods.probe import Probe, held_out
from tasks.errors import UserInputError
from tests.methods.small import grid_of, prompts, setting, subject


def by_scikit_learn(h: Any, penalty: float) -> list[float]:
    """Label times judgement of pairs left out, of (pair, run, width)."""
    n, found = len(h), []
    for pair in range(n):
        train = h[[one for one in range(n) if one != pair]].reshape(2 * n - 2, -1)
        labels = [1, 0] * (n - 1)
        centred = train - train.mean(axis=0)
        alpha = penalty * (centred**2).sum(axis=1).mean()
        model = RidgeClassifier(alpha=alpha, solver="cholesky").fit(train, labels)
        found += (model.decision_function(h[pair]) * [1, -1]).tolist()
    return found


@pytest.mark.parametrize("penalty", [0.1, 2.0])
def test_judgements_are_those_of_a_ridge_classifier(penalty: float) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(10, 9, 2, 6, generator=generator, dtype=torch.float64) + 3
    h[:, :, 0] += torch.linspace(0, 1.5, 10)[:, None, None]
    rows = h.flatten(1, 2)
    found = held_out(torch.einsum("par,pbr->pab", rows, rows), penalty)
    for ours, one in zip(found, h, strict=True):
        assert ours.tolist() == pytest.approx(by_scikit_learn(one.numpy(), penalty))


def test_it_sees_differences_where_there_are_any_and_nothing_before_them() -> None:
    model = subject("gpt2")
    some = prompts(6)
    some.tokens[:, 2], some.corrupted[:, 2] = 5, 9  # the same change in all prompts
    some.corrupted[:, 4] = some.tokens[:, 4]
    grid = grid_of(model, ["z", "resid_post"])
    found = Probe().fit(model, some, grid, setting())
    stream = grid.rows(Site.RESID_POST)
    assert (found.scores[:, :, :2].abs() < 1e-6).all()
    assert torch.all(found.extras["accuracy"][:, :, :2] == 0.5)
    assert float(found.extras["accuracy"][stream][0, 0, 2]) == 1
    assert float(found.scores[stream][0, 0, 2]) > 0.5
    with pytest.raises(UserInputError, match="needs two"):
        Probe().fit(model, prompts(1), grid, setting())
