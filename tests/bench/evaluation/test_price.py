"""Strengths at a price: against a dense grid, and chosen without a look at test."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.evaluation.localisation import localise
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch, price_curve
from bench.evaluation.sparsity import strongest
from bench.evaluation.split import respond
from bench.execution.run import run_matrix
from bench.matrix.stages import PRICE_CURVE, Localisation
from bench.store.cells import Cell
from bench.store.records import PriceRecord
from methods.core.objective import effectiveness, faithfulness
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from tests.bench.evaluation.dense import dense_e_0
from tests.small import small_matrix

Prepared = tuple[SubjectModel, PreparedTask]
PRICES = (0.01, 0.1, 0.3, 1.0)


def scaling(task: PreparedTask, seed: int) -> StaticScaling:
    generator = torch.Generator().manual_seed(seed)
    return StaticScaling.from_scores(task.grid, torch.randn(task.grid.shape, generator=generator))


@pytest.mark.parametrize("seed", range(3))
def test_e_0_at_a_price_is_that_of_a_dense_grid(prepared: Prepared, seed: int) -> None:
    subject, task = prepared
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


def test_what_is_affordable_is_spent_where_it_helps(prepared: Prepared) -> None:
    subject, task = prepared
    found = [PriceSearch(subject, task.train, scaling(task, 0)).at(price) for price in PRICES]
    assert all(a.E_0 <= b.E_0 for a, b in pairwise(found))
    spent = [one for one in found if one.reached and one.paid > 0.9 * one.price]
    assert spent
    assert all(one.paid >= 0.99 * one.price for one in spent)


def test_the_sign_of_what_is_trained_is_kept(prepared: Prepared) -> None:
    subject, task = prepared
    steering = scaling(task, 1)
    mirrored = StaticScaling(task.grid, -steering.alpha.detach())
    for one in (steering, mirrored):
        assert PriceSearch(subject, task.train, one, both_signs=False).at(1.0).beta >= 0
    free = PriceSearch(subject, task.train, steering).at(1.0)
    assert PriceSearch(subject, task.train, mirrored).at(1.0).beta == -free.beta


def test_scalars_that_do_nothing_leave_the_model_as_it_is(prepared: Prepared) -> None:
    subject, task = prepared
    nothing = StaticScaling(task.grid, torch.zeros(task.grid.shape))
    found = PriceSearch(subject, task.train, nothing).at(0.3)
    expected = {"price": 0.3, "beta": 0, "paid": 0, "E_0": task.train.unsteered_e_0}
    assert found == PriceRecord(**expected, reached=False)


class FlatPrice(PriceSearch):
    """What it does costs next to nothing more, however strong it is."""

    def _run(self, *sizes: float) -> float:
        self._price |= {size: 0.1 - 1e-9 / size for size in sizes}
        return max(self._price[size] for size in sizes)


def test_a_price_that_is_never_reached_ends_at_the_largest_strength(prepared: Prepared) -> None:
    subject, task = prepared
    search = FlatPrice(subject, task.train, scaling(task, 0))
    strength, reached = search.limit(0.3)
    assert (strength, reached) == (max(search._price), False)


def test_no_choice_looks_at_test(prepared: Prepared) -> None:
    subject, task = prepared
    steering, setting = scaling(task, 2), Localisation(k=[1, 4])
    train = replace(task.train, name="test")
    other = replace(task, splits={**task.splits, "test": train})
    scores = steering.alpha.detach()
    found = [localise(subject, one, steering, scores, setting, 0)[0] for one in (task, other)]
    assert found[0].beta == found[1].beta
    assert found[0].E_0 != found[1].E_0
    np.testing.assert_allclose(found[1].E_0, found[1].E_0_train, atol=1e-5)
    search = PriceSearch(subject, task.train, steering)
    curves = [price_curve(search, one.splits["test"])[0] for one in (task, other)]
    assert curves[0].beta == curves[1].beta


def test_points_of_equal_score_are_chosen_by_seed() -> None:
    scores = torch.tensor([[[2.0, -1.0], [torch.nan, 1.0]]])
    chosen = {tuple(strongest(scores, 2, seed).flatten().tolist()) for seed in range(20)}
    assert chosen == {(True, True, False, False), (True, False, False, True)}
    assert not strongest(scores, 3, 0)[0, 1, 0]


@pytest.fixture(scope="module")
def cells(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    methods = ["grad_scalar", *({"name": n, "epochs": 2} for n in ("activ_scalar", "dyn_scalar"))]
    asked = {"prices": {}, "localisation": {"k": [1, 4, 100_000]}, "controls": {"draws": 1}}
    matrix = small_matrix(tiny_folder, methods=methods, **asked)
    outcome = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run")
    assert not outcome.failed
    return [outcome.store.read(cell_id) for cell_id in outcome.store.ids()]


def test_a_cell_says_what_it_paid_on_every_split(cells: list[Cell]) -> None:
    assert {cell.record.method for cell in cells} >= {"random", "shuffled[of=grad_scalar]"}
    assert any(cell.record.method.startswith("shuffled[of=dyn_scalar") for cell in cells)
    for cell in cells:
        record = cell.record
        assert [price.price for price in record.prices] == [0.1, 0.3, 1.0]
        for price in record.prices:
            rows = {row.split: row for row in record.metrics if row.price == price.price}
            assert set(rows) == {"train", "test", "shifted"}
            assert {row.beta for row in rows.values()} == {price.beta}
            found = [-rows["train"].F, rows["train"].E_0]
            np.testing.assert_allclose(found, [price.paid, price.E_0], atol=1e-5)
            assert price.beta in cell.tensors["split.test.beta"].tolist()
        assert record.price_curve is not None
        assert record.price_curve.price == list(PRICE_CURVE)
        kl = cell.tensors["price_curve.kl"]
        assert kl.shape == (3, len(PRICE_CURVE), 2)
        np.testing.assert_allclose(record.price_curve.paid, kl.sum(-1).mean(0), rtol=1e-4)
        assert record.localisation is not None
        assert record.localisation.k == [1, 4]
        ld = cell.tensors["localisation.ld"]
        expected = np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)
        np.testing.assert_allclose(record.localisation.E_0, expected.mean(0), atol=1e-6)
