"""Where cells are computed: rows of a forward and precision, stored with what they made."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.execution import cell_runner as module
from bench.execution.cell_runner import OtherModelError, tf32
from bench.execution.run import Outcome, run_matrix
from bench.matrix.cells import expand
from bench.matrix.schema import Matrix
from bench.models.load import model_digest
from bench.store.cells import Cell
from tasks.errors import UserInputError
from tests.small import brief_matrix


def matrix_of(folder: Path, **changes: Any) -> Matrix:
    changes = {"methods": ["grad_scalar"], "controls": {"draws": 0}, **changes}
    matrix: Matrix = brief_matrix(folder, **changes)
    return matrix


def only_cell(outcome: Outcome) -> Cell:
    (cell_id,) = outcome.store.ids()
    return outcome.store.read(cell_id)


def rows_of(outcome: Outcome) -> list[int]:
    store = outcome.store
    return [store.record(name).provenance["rows_per_forward"] for name in store.ids()]


def test_rows_follow_from_memory_unless_the_matrix_says_them(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 7)
    assert rows_of(run_matrix(matrix_of(tiny_folder), tmp_path / "auto")) == [7]
    said = matrix_of(tiny_folder, rows_per_forward=3)
    assert rows_of(run_matrix(said, tmp_path / "said")) == [3]


@pytest.mark.parametrize("half", [{"dtype": "bfloat16"}, {"autocast": "bfloat16"}])
def test_in_half_precision_rows_do_not_follow_the_memory_at_hand(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: dict[str, str]
) -> None:
    """They are a part of what a cell is; where memory does not do, the cell says what would."""
    monkeypatch.setattr(module, "rows_at_hand", lambda *_: pytest.fail("asked for memory"))
    models = [{"name": str(tiny_folder), "device": "cpu", **half}]
    outcome = run_matrix(matrix_of(tiny_folder, models=models), tmp_path / "run")
    assert rows_of(outcome) == [32]
    (cell,) = expand(matrix_of(tiny_folder, models=models), model_digest, lambda device: "cpu")
    assert cell.settings["rows_per_forward"] == 32
    (plain,) = expand(matrix_of(tiny_folder), model_digest, lambda device: "cpu")
    assert plain.settings["rows_per_forward"] == "auto"

    def greedy(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "compute_cell", greedy)
    (failed,) = run_matrix(matrix_of(tiny_folder, models=models), tmp_path / "again").failed
    assert failed.error is not None
    assert "with 32 rows a forward" in failed.error.message
    assert "`rows_per_forward: 16`" in failed.error.message


def test_what_is_added_has_the_rows_of_what_is_there(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a run in two goes has the numbers of a run in one, to the bit."""
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 5)
    run_matrix(matrix_of(tiny_folder), tmp_path)
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 9)
    added = run_matrix(matrix_of(tiny_folder, methods=["grad_scalar", "dla"]), tmp_path)
    assert len(added.computed) == 1
    assert rows_of(added) == [5, 5]


def test_a_cell_that_runs_out_of_memory_goes_on_with_half_the_rows(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = module.compute_cell, []

    def greedy(cell: Any, model: Any, subject: Any, *rest: Any) -> Any:
        tried.append(subject.rows_per_forward)
        if subject.rows_per_forward > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(cell, model, subject, *rest)

    monkeypatch.setattr(module, "compute_cell", greedy)
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 16)
    outcome = run_matrix(matrix_of(tiny_folder, methods=["grad_scalar", "dla"]), tmp_path)
    assert not outcome.failed
    assert tried == [16, 8, 4, 4]
    assert rows_of(outcome) == [4, 4]


def test_autocast_is_a_setting_of_the_model(tiny_folder: Path, tmp_path: Path) -> None:
    """Other numbers, about the same scores, and said in the cell's settings."""
    found = {}
    for dtype in ("none", "bfloat16"):
        model = {"name": str(tiny_folder), "autocast": dtype}
        outcome = run_matrix(matrix_of(tiny_folder, models=[model]), tmp_path / dtype)
        assert not outcome.failed
        cell = only_cell(outcome)
        assert cell.record.settings["model"]["autocast"] == dtype
        found[dtype] = cell.tensors["scores"]
    exact, rough = found["none"], found["bfloat16"]
    assert not np.array_equal(exact, rough)
    size = np.nanmax(np.abs(exact))
    assert np.nanmax(np.abs(exact - rough)) < 0.1 * size


def test_tf32_is_allowed_within_the_block_only() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
        with tf32(False):
            assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_another_model_than_was_planned_is_refused(tiny_folder: Path) -> None:
    """Its folder was changed between planning and loading, or is another one on a worker."""
    matrix = matrix_of(tiny_folder)
    cell = expand(matrix, lambda name: "what it was", lambda device: "cpu")[0]
    place = module.CellRunner()
    for _ in range(2):
        with pytest.raises(OtherModelError, match="was planned with what it was"):
            place.open(cell)
    stated = {**cell.settings["model"], "digest": model_digest(str(tiny_folder)), "bos": "<s>"}
    cell = replace(cell, settings={**cell.settings, "model": stated})
    with pytest.raises(OtherModelError, match=r"entry \{\}, but was planned with \{.bos.: .<s>"):
        module.CellRunner().open(cell)
    pinned = matrix_of(tiny_folder, models=[{"name": str(tiny_folder), "digest": "another"}])
    cell = expand(pinned, model_digest, lambda device: "cpu")[0]
    with pytest.raises(OtherModelError, match="asks for the digest another"):
        module.CellRunner().open(cell)


def broken(name: str, **how: Any) -> Any:
    raise RuntimeError("the disk gave nonsense")


def leaving(*arguments: Any, **how: Any) -> Any:
    sys.exit(0)


def wrong(name: str, **how: Any) -> Any:
    raise UserInputError("no such model")


@pytest.mark.parametrize("part", ["compute_cell", "prepare_task"])
def test_what_ends_the_process_is_a_failed_cell_and_the_others_go_on(
    part: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(module, part)
    asked: list[object] = []

    def once(*arguments: Any) -> Any:
        asked.append(arguments)
        return (leaving if len(asked) == 1 else real)(*arguments)

    monkeypatch.setattr(module, part, once)
    outcome = run_matrix(matrix_of(tiny_folder, tasks=["ioi", "ccc"]), tmp_path)
    (failed,) = outcome.failed
    assert failed.error is not None
    assert "SystemExit(0)" in failed.error.message
    assert len(outcome.computed) == 1


@pytest.mark.parametrize(
    ("load", "kind"),
    [(broken, "RuntimeError"), (leaving, "EscapedError"), (wrong, "UserInputError")],
)
def test_a_first_model_that_breaks_fails_its_cells_alone(
    load: Any, kind: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once, every cell says why, and the log does not grow from cell to cell."""
    real, asked = module.load_model, []
    other = shutil.copytree(tiny_folder, tmp_path / "other")

    def first_breaks(name: str, **how: Any) -> Any:
        asked.append(name)
        return (real if name == str(tiny_folder) else load)(name, **how)

    monkeypatch.setattr(module, "load_model", first_breaks)
    matrix = matrix_of(tiny_folder, models=[str(other), str(tiny_folder)],
                       methods=["grad_scalar", "dla"])  # fmt: skip
    outcome = run_matrix(matrix, tmp_path / "run")
    assert asked == [str(other), str(tiny_folder)]
    assert len(outcome.computed) == 2
    errors = [record.error for record in outcome.failed if record.error]
    assert [error.kind for error in errors] == [kind] * 2
    assert all("first_breaks" in error.log for error in errors)
    assert len({len(error.log) for error in errors}) == 1
