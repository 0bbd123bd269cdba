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
from bench.execution.run import Outcome
from bench.matrix.cells import expand
from bench.models.load import model_digest
from bench.store.results import find_cell
from tasks.errors import UserInputError
from tests.small import RunOf, matrix_of


def rows_of(outcome: Outcome) -> list[int]:
    store = outcome.store
    return [store.record(name).provenance["rows_per_forward"] for name in store.ids()]


def test_rows_follow_from_memory_unless_the_matrix_says_them(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added has those of what is there: a run in two goes has the numbers of one in one."""
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 7)
    assert rows_of(run_of()) == [7]
    assert rows_of(run_of(rows_per_forward=3, to="stated")) == [3]
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 9)
    added = run_of("grad_scalar", "dla")
    assert len(added.computed) == 1
    assert rows_of(added) == [7, 7]


@pytest.mark.parametrize("half", ["dtype", "autocast"])
def test_in_half_precision_rows_do_not_follow_the_memory_at_hand(
    run_of: RunOf, tiny_folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    """They are a part of what a cell is; where memory does not do, the cell says what would."""
    monkeypatch.setattr(module, "rows_at_hand", lambda *_: pytest.fail("asked for memory"))
    models = [{"name": str(tiny_folder), "device": "cpu", half: "bfloat16"}]
    outcome = run_of(models=models)
    assert rows_of(outcome) == [32]
    (name,) = outcome.computed
    cell = outcome.store.read(name)
    assert cell.record.settings["rows_per_forward"] == 32
    assert cell.record.settings["model"][half] == "bfloat16"
    store, name = find_cell("-grad_scalar-0", whole / "run")
    plain = store.read(name)
    assert plain.record.settings["rows_per_forward"] == "auto"
    exact, rough = (one.tensors["scores"] for one in (plain, cell))
    assert 0 < np.nanmax(np.abs(exact - rough)) < 0.1 * np.nanmax(np.abs(exact))

    def greedy(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "compute_cell", greedy)
    (failed,) = run_of(models=models, to="again").failed
    assert failed.error is not None
    assert "with 32 rows a forward" in failed.error.message
    assert "`rows_per_forward: 16`" in failed.error.message


def test_a_cell_that_runs_out_of_memory_goes_on_with_half_the_rows(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = module.compute_cell, []

    def greedy(cell: Any, model: Any, subject: Any, *rest: Any) -> Any:
        tried.append(subject.rows_per_forward)
        if subject.rows_per_forward > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(cell, model, subject, *rest)

    monkeypatch.setattr(module, "compute_cell", greedy)
    monkeypatch.setattr(module, "rows_at_hand", lambda subject, n_positions: 16)
    outcome = run_of("grad_scalar", "dla")
    assert not outcome.failed
    assert tried == [16, 8, 4, 4]
    assert rows_of(outcome) == [4, 4]


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


def test_a_task_that_ends_the_process_is_a_failed_cell_and_the_others_go_on(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = module.prepare_task, []

    def once(*arguments: Any) -> Any:
        asked.append(arguments)
        return sys.exit(0) if len(asked) == 1 else real(*arguments)

    monkeypatch.setattr(module, "prepare_task", once)
    outcome = run_of(tasks=["ioi", "ccc"])
    (failed,) = outcome.failed
    assert failed.error is not None
    assert "SystemExit(0)" in failed.error.message
    assert len(outcome.computed) == 1


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (RuntimeError("the disk gave nonsense"), "RuntimeError"),
        (SystemExit(0), "EscapedError"),
        (UserInputError("no such model"), "UserInputError"),
    ],
)
def test_a_first_model_that_breaks_fails_its_cells_alone(
    raised: BaseException, kind: str, run_of: RunOf, tiny_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is tried once, every cell says why, and the log does not grow from cell to cell."""
    real, asked = module.load_model, []
    other = shutil.copytree(tiny_folder, tmp_path / "other")

    def first_breaks(name: str, **how: Any) -> Any:
        asked.append(name)
        if name == str(other):
            raise raised
        return real(name, **how)

    monkeypatch.setattr(module, "load_model", first_breaks)
    names = [str(other), str(tiny_folder)]
    outcome = run_of("grad_scalar", "dla", models=names)
    assert asked == names
    assert len(outcome.computed) == 2
    errors = [record.error for record in outcome.failed if record.error]
    assert [error.kind for error in errors] == [kind] * 2
    assert all("first_breaks" in error.log for error in errors)
    assert len({len(error.log) for error in errors}) == 1
