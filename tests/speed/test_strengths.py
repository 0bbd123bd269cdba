"""Strengths at a price on SmolLM2: against a direct computation on a dense grid, and their cost."""

import numpy as np
import pytest
import torch

from bench.evaluation.prepare import prepare_task
from bench.evaluation.price import PriceSearch
from bench.evaluation.split import respond
from bench.matrix.cells import expand
from bench.models.load import LoadedModel
from methods.core.objective import Objective, faithfulness
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Setting
from tests.bench.evaluation.dense import dense_e_0
from tests.small import small_matrix

METHODS = ("attr_patch", "grad_scalar", "activ_scalar", "random")
PRICE = 0.3


@pytest.mark.parametrize("name", METHODS)
def test_e_0_at_a_price_is_that_of_a_dense_grid(name: str, smollm2: LoadedModel) -> None:
    prompts = {"train": 4, "test": 1, "shifted": 0}
    matrix = small_matrix("smollm2-135m", methods=[name], prompts=prompts, controls={"draws": 0})
    (cell,) = expand(matrix, lambda model: "digest", lambda device: "cpu")
    subject = SubjectModel(smollm2.bridge)
    task = prepare_task(cell.task, cell, smollm2, subject)
    found = cell.method.method.fit(subject, task.train.prompts, task.grid, Setting(Objective(), 0))
    trained = type(cell.method.method).trained
    of = found.intervention or StaticScaling.from_scores(task.grid, found.scores)
    before = subject.passes.forward
    search = PriceSearch(subject, task.train, of, both_signs=not trained)
    chosen = search.at(PRICE)
    rows = subject.passes.forward - before
    (expected,) = dense_e_0(subject, task, of, [PRICE], ratio=1.08, both_signs=not trained)
    limit, _ = search.limit(PRICE)
    signs = torch.tensor([limit, -limit])
    paid = -float(faithfulness(*respond(subject, task.train, of, signs).kl.T))
    print(
        f"\n{name}: E_0 {chosen.E_0:.4f}, on the dense grid {expected:.4f}; "
        f"the largest affordable strength costs {paid:.4f}; {rows} rows"
    )
    np.testing.assert_allclose(paid, PRICE, rtol=0.01)
    assert chosen.paid <= PRICE
    assert abs(chosen.E_0 - expected) <= 0.03
