"""Settings of trained methods are chosen on a part of train, and no choice ever sees test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.evaluation.compute import Tensors, compute_cell
from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.evaluation.select import _changed
from bench.matrix.stages import Candidate
from bench.models.load import LoadedModel
from bench.store.records import CellRecord
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from methods.hard_concrete import HardConcrete
from methods.method import Setting
from tasks.errors import UserInputError
from tests.small import planned, small_matrix

SETTINGS = [{"learning_rate": 1e-4}, {"learning_rate": 0.05, "lambda_f": 0.1}, {"epochs": 1}]
TRAINED = [{"name": "activ_scalar", "epochs": 3}]
Compute = Callable[..., tuple[CellRecord, Tensors]]


@pytest.fixture(scope="module")
def compute(tiny: LoadedModel, subject: SubjectModel, tiny_folder: Path) -> Compute:
    def run(change: Callable[[PreparedTask], PreparedTask] | None = None, **keys: Any) -> Any:
        asked = {"prompts": {"train": 3, "test": 6, "shifted": 0}, "controls": {"draws": 0}}
        matrix = small_matrix(tiny_folder, **{**asked, "smallest_k": False, **keys})
        (cell,) = planned(matrix)
        task = prepare_task(cell.task, cell, tiny, subject)
        task = change(task) if change else task
        return compute_cell(cell, tiny, subject, task, None)

    return run


def test_the_best_on_validation_prompts_is_fitted_on_all_of_train(compute: Compute) -> None:
    record, tensors = compute(methods=TRAINED, select=SETTINGS)
    assert [row.settings for row in record.selected] == SETTINGS
    assert {row.n_prompts for row in record.selected} == {1}
    assert len({row.E_0 for row in record.selected}) > 1
    best = max(record.selected, key=lambda row: (row.E_0, -row.paid))
    assert [row for row in record.selected if row.chosen] == [best]
    assert all(row.paid <= row.price for row in record.selected)
    method = {**TRAINED[0], **{k: v for k, v in best.settings.items() if k != "lambda_f"}}
    weight = {"lambda_f": best.settings.get("lambda_f", 1.0)}
    alone, expected = compute(methods=[method], objective=weight)
    np.testing.assert_array_equal(tensors["scores"], expected["scores"])
    assert not alone.selected
    passes, without = (one.provenance["passes"] for one in (record, alone))
    assert passes["fit_forward_rows"] > 1.5 * without["fit_forward_rows"]


@pytest.mark.parametrize("method", [TRAINED[0], "grad_scalar"])
def test_no_choice_ever_sees_test(compute: Compute, method: object) -> None:
    """With other entities in test all that is chosen is the same to the bit, and E_0 is not."""

    def tested_on(rows: range) -> Callable[[PreparedTask], PreparedTask]:
        def change(task: PreparedTask) -> PreparedTask:
            entities = [pair.entity for pair in task.encoded.batches["test"].pairs]
            assert not {*entities[:3]} & {*entities[3:]}
            test = task.splits["test"].take(rows)
            return replace(task, splits={**task.splits, "test": test})

        return change

    asked = {
        "methods": [method],
        "select": SETTINGS,
        "prices": {},
        "localisation": {"k": [1, 4]},
        "retrained": {"k": [2], "draws": 1, "steps": 2},
        "sparsity": {"points": 2},
        "smallest_k": True,
    }
    one, other = (compute(tested_on(rows), **asked)[0] for rows in (range(3), range(3, 6)))
    assert one.localisation is not None
    assert other.localisation is not None
    assert one.localisation.E_0 != other.localisation.E_0
    assert chosen(one) == chosen(other)
    assert bool(one.selected) == one.trained


def chosen(record: CellRecord) -> list[object]:
    """Everything that a cell chose."""
    curves = (record.localisation, record.price_curve, record.sparsity)
    found = [record.beta, record.prices, record.selected, *(one.beta for one in curves if one)]
    assert record.minimality
    found.append(record.minimality.smallest_k)
    assert len(found) == 7
    return [*found, [(row.support, row.beta, row.E_0_train) for row in record.retrained]]


def test_a_mistake_in_what_is_tried_is_named(compute: Compute) -> None:
    with pytest.raises(UserInputError, match="one entity"):
        compute(methods=TRAINED, select=SETTINGS, prompts={"train": 1, "test": 1, "shifted": 0})
    with pytest.raises(UserInputError, match="select"):
        compute(methods=TRAINED, select=[{}] * 5)
    with pytest.raises(UserInputError, match="rate"):
        compute(methods=TRAINED, select=[{"rate": 1}])
    with pytest.raises(UserInputError, match='no setting "epochs"'):
        _changed(HardConcrete(), Setting(Objective(), 0), Candidate(epochs=1))
