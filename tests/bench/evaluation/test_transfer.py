"""What is trained on one task, evaluated on others: of another length, and only where it fits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.split import respond
from bench.evaluation.transfer import TIED, evaluate_elsewhere
from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from bench.store.cells import Cell
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hidden_scaling import HiddenScaling
from methods.core.objective import Objective
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from tests.small import brief_matrix

METHODS = [{"name": "dyn_scalar", "epochs": 2}, {"name": "activ_scalar", "epochs": 2}, "dla"]
SETTINGS = {
    "methods": METHODS,
    "transfer": ["ccc", "ioi"],
    "controls": {"draws": 0},
    "prompts": {"train": 2, "test": 3, "shifted": 0},
}


@pytest.fixture(scope="module")
def cells(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    matrix = brief_matrix(tiny_folder, **SETTINGS)
    store = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run").store
    found = [store.read(cell_id) for cell_id in store.ids()]
    return {cell.record.settings["method"]["name"]: cell for cell in found}


def test_dynamic_scalars_are_evaluated_on_prompts_of_another_length(cells: dict[str, Cell]) -> None:
    record, tensors = cells["dyn_scalar"].record, cells["dyn_scalar"].tensors
    assert {row.split for row in record.metrics} == {"train", "test", "ccc"}
    (row,) = [row for row in record.metrics if row.split == "ccc"]
    assert row.n_prompts == len(record.prompts["ccc"]) == 3
    length = len(record.prompts["ccc"][0].tokens)
    assert length != len(record.prompts["test"][0].tokens)
    assert tensors["transfer.ccc.positions"].tolist() == list(range(1, length))
    assert record.grid is not None
    shape = (3, 2, record.grid.n_layers, length - 1)
    assert tensors["transfer.ccc.scalars"].shape == shape
    assert np.abs(tensors["transfer.ccc.scalars"]).max() > 0
    ld = tensors["split.ccc.ld"]
    e_0 = -np.maximum(0, -ld[:, 1]).mean() - np.maximum(0, ld[:, 2]).mean()
    assert pytest.approx(float(e_0), abs=1e-5) == row.E_0


def test_what_is_tied_to_positions_stays_at_home_and_says_so(cells: dict[str, Cell]) -> None:
    record = cells["activ_scalar"].record
    assert {row.split for row in record.metrics} == {"train", "test"}
    assert TIED in record.notes
    assert TIED not in cells["dyn_scalar"].record.notes


def test_untrained_methods_are_not_taken_anywhere(cells: dict[str, Cell]) -> None:
    record = cells["dla"].record
    assert "transfer" not in record.settings
    assert set(record.prompts) == {"train", "test"}


@pytest.mark.parametrize("units", [None, 2])
def test_at_home_the_numbers_are_those_of_the_test_split(
    units: int | None, prepared: tuple[SubjectModel, PreparedTask]
) -> None:
    subject, task = prepared
    grid = task.grid
    generator = torch.Generator().manual_seed(0)
    gates = torch.randn((len(grid.places), grid.n_layers, subject.d_model), generator=generator)
    dynamic = DynamicScaling(grid, gates)
    if units:
        outer = torch.ones((*gates.shape[:2], units))
        wide = gates[:, :, None].repeat(1, 1, units, 1)
        dynamic = HiddenScaling(grid, wide, outer, activation="tanh")
    found = evaluate_elsewhere(subject, dynamic, {"again": task}, Objective())
    test = task.splits["test"]
    expected = respond(subject, test, dynamic, torch.tensor([0.0, 1.0, -1.0]))
    np.testing.assert_array_equal(found.tensors["split.again.ld"], expected.ld.numpy())
    assert found.tensors["transfer.again.scalars"].any()
    static = StaticScaling(grid, torch.zeros(grid.shape))
    assert evaluate_elsewhere(subject, static, {"again": task}, Objective()).notes == [TIED]


def test_where_it_is_taken_is_part_of_what_a_cell_is() -> None:
    def ids(**changes: object) -> dict[str, str]:
        matrix = brief_matrix("x", **{**SETTINGS, **changes})
        cells = expand(matrix, lambda name: "digest", lambda device: "cpu")
        return {cell.method.name: cell.id for cell in cells}

    one, other = ids(), ids(transfer=["ioi"])
    assert one["dla"] == other["dla"]
    assert one["dyn_scalar"] != other["dyn_scalar"]
