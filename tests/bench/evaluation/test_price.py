"""Strengths at a price: against a dense grid, and chosen without a look at test."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from bench.evaluation.localisation import localise
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch
from bench.evaluation.sparsity import strongest
from bench.evaluation.split import respond
from bench.matrix.stages import Localisation
from bench.store.records import PriceRecord
from methods.core.objective import effectiveness, faithfulness
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from tests.bench.evaluation.dense import dense_e_0

PRICES = (0.01, 0.1, 0.3, 1.0)


def scaling(task: PreparedTask, seed: int) -> StaticScaling:
    generator = torch.Generator().manual_seed(seed)
    return StaticScaling.from_scores(task.grid, torch.randn(task.grid.shape, generator=generator))


@pytest.mark.parametrize("seed", range(3))
def test_e_0_at_a_price_is_that_of_a_dense_grid(
    subject: SubjectModel, task: PreparedTask, seed: int
) -> None:
    steering = scaling(task, seed)
    search = PriceSearch(subject, task.train, steering)
    for price, dense in zip(PRICES, dense_e_0(subject, task, steering, PRICES), strict=True):
        found = search.at(price)
        assert found.paid <= price
        assert task.train.unsteered_e_0 <= found.E_0
        assert abs(found.E_0 - dense) <= 0.03
        response = respond(subject, task.train, steering, torch.tensor([found.beta, -found.beta]))
        e_0 = float(effectiveness(response.ld[:, 0], response.ld[:, 1], 0.0))
        assert pytest.approx(e_0, abs=1e-5) == found.E_0
        paid = -float(faithfulness(response.kl[:, 0], response.kl[:, 1]))
        assert found.paid == pytest.approx(paid, abs=1e-6)


def test_what_is_affordable_is_spent_where_it_helps(
    subject: SubjectModel, task: PreparedTask
) -> None:
    found = [PriceSearch(subject, task.train, scaling(task, 0)).at(price) for price in PRICES]
    assert all(a.E_0 <= b.E_0 for a, b in pairwise(found))
    spent = [one for one in found if one.reached and one.paid > 0.9 * one.price]
    assert spent
    assert all(one.paid >= 0.99 * one.price for one in spent)


def test_the_sign_of_what_is_trained_is_kept(subject: SubjectModel, task: PreparedTask) -> None:
    steering = scaling(task, 1)
    mirrored = StaticScaling(task.grid, -steering.alpha.detach())
    for one in (steering, mirrored):
        assert PriceSearch(subject, task.train, one, both_signs=False).at(1.0).beta >= 0
    free = PriceSearch(subject, task.train, steering).at(1.0)
    assert PriceSearch(subject, task.train, mirrored).at(1.0).beta == -free.beta


def test_scalars_that_do_nothing_leave_the_model_as_it_is(
    subject: SubjectModel, task: PreparedTask
) -> None:
    nothing = StaticScaling(task.grid, torch.zeros(task.grid.shape))
    found = PriceSearch(subject, task.train, nothing).at(0.3)
    expected = {"price": 0.3, "beta": 0, "paid": 0, "E_0": task.train.unsteered_e_0}
    assert found == PriceRecord(**expected, reached=False)


class FlatPrice(PriceSearch):
    """What it does costs next to nothing more, however strong it is."""

    def _run(self, *sizes: float) -> float:
        self._price |= {size: 0.1 - 1e-9 / size for size in sizes}
        return max(self._price[size] for size in sizes)


def test_a_price_that_is_never_reached_ends_at_the_largest_strength(
    subject: SubjectModel, task: PreparedTask
) -> None:
    search = FlatPrice(subject, task.train, scaling(task, 0))
    strength, reached = search.limit(0.3)
    assert (strength, reached) == (max(search._price), False)


def test_e_0_on_train_is_that_of_a_test_split_which_is_train(
    subject: SubjectModel, task: PreparedTask
) -> None:
    steering, setting = scaling(task, 2), Localisation(k=[1, 4])
    other = replace(task, splits={**task.splits, "test": replace(task.train, name="test")})
    found, _ = localise(subject, other, steering, steering.alpha.detach(), setting, 0)
    np.testing.assert_allclose(found.E_0, found.E_0_train, atol=1e-5)


def test_points_of_equal_score_are_chosen_by_seed() -> None:
    scores = torch.tensor([[[2.0, -1.0], [torch.nan, 1.0]]])
    chosen = {tuple(strongest(scores, 2, seed).flatten().tolist()) for seed in range(20)}
    assert chosen == {(True, True, False, False), (True, False, False, True)}
    assert not strongest(scores, 3, 0)[0, 1, 0]
