"""A cell computed again as its record says: threads, device, failures, earlier matrices."""

import shutil
from pathlib import Path

import pytest
import torch

from bench.execution.executor import Executor
from bench.execution.failure import CellTimeoutError
from bench.execution.reproduce import compare, compute_again, planned
from bench.execution.run import executor_of, run_matrix
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from bench.store.results import RunStore, find_cell
from tests.command import output_of
from tests.small import brief_matrix, failing


def test_it_has_the_threads_that_its_record_says(whole: Path) -> None:
    store, cell_id = find_cell("shuffled", whole / "run")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stored = store.read(cell_id)
        again = compute_again(store, stored.record)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert stored.record.provenance["threads"] == again.record.provenance["threads"] == 1
    assert compare(stored, again).same
    shown = output_of("reproduce", "random", "-r", whole / "run")
    assert "the same bits" in shown
    assert "computed on 1 threads, cpu, float32, " in shown
    assert "different from then" in shown or "nothing around it is different" in shown


def test_it_is_on_the_kind_of_device_that_it_was_on(
    tiny_folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though "auto" means another one here."""
    store, cell_id = find_cell("random", whole / "run")
    matrix = brief_matrix(tiny_folder, models=[{"name": str(tiny_folder), "device": "auto"}])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    cell = planned(matrix, store, store.record(cell_id))
    assert (cell.id, cell.model.device) == (cell_id, "cpu")


def test_a_cell_of_an_earlier_matrix_needs_that_matrix(
    tiny_folder: Path, whole: Path, copied: Path
) -> None:
    run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), copied / "run")
    place = ["reproduce", "activ_scalar", "-r", copied / "run"]
    assert "--matrix FILE" in output_of(*place, code=2)
    assert "the same bits" in output_of(*place, "--matrix", whole / "mine.yaml")


def test_what_comes_out_otherwise_or_would_be_another_cell_says_where(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = ["reproduce", "grad_scalar-0", "-r", whole / "run"]
    monkeypatch.setattr("bench.evaluation.responses.SWEPT_SPLITS", ("test",))
    shown = output_of(*cell, code=1)
    assert "other numbers" in shown
    assert "sweep.train.ld: only in one of the two" in shown
    monkeypatch.setattr("bench.matrix.identity.NUMBERS_VERSION", 77)
    assert "numbers_version was" in output_of(*cell, code=2)


def test_of_a_failed_cell_the_failure_is_compared(tiny_folder: Path, tmp_path: Path) -> None:
    place = ["-r", tmp_path / "run"]
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, RuntimeError("no \x1b[31mgradient today"))
        run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), tmp_path / "run")
        for name in ("grad_scalar-0", "shuffled"):  # the second one for want of its parent
            assert "the same failure" in output_of("reproduce", name, *place)
        failing(patch, RuntimeError("none at all"))
        shown = output_of("reproduce", "grad_scalar-0", *place, code=1)
    assert "then: failed: RuntimeError: no \\x1b[31mgradient today" in shown
    assert "now:  failed: RuntimeError: none at all" in shown
    assert "now:  done" in output_of("reproduce", "grad_scalar-0", *place, code=1)


def test_where_things_lie_is_no_difference(tiny_folder: Path, whole: Path, tmp_path: Path) -> None:
    """The model, and the run, may have been moved."""
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    store, cell_id = find_cell("grad_scalar-0", whole / "run")
    stored = store.read(cell_id)
    config = {**store.config, "models": [{"name": str(moved), "device": "cpu"}]}
    record = stored.record.model_copy(update={"model": str(moved)})
    run = {**store.run, "config": parse(config, "it").model_dump()}
    assert compare(stored, compute_again(RunStore(store.directory, run), record)).same


def test_a_time_limit_is_that_of_the_record_or_the_one_that_is_given(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/bench/execution/test_dask_executor.py has such a cell, of a worker that was ended."""
    limits, given = {"cell_timeout": 0.5, "load_timeout": 3600.0}, []
    matrix = brief_matrix(tiny_folder, methods=["grad_scalar"], controls={"draws": 0})
    failing(monkeypatch, CellTimeoutError("its worker was ended"))
    store = run_matrix(matrix, tmp_path / "run").store
    (record,) = (store.record(name) for name in store.ids())
    assert record.error is not None
    told = {"message": "took longer than 0.5 s", "kind": "CellTimeoutError"}
    error = record.error.model_copy(update=told)
    provenance = {**record.provenance, **limits}
    store.write(record.model_copy(update={"provenance": provenance, "error": error}), {})

    def executor(matrix: Matrix, options: RunOptions, folder: Path) -> Executor:
        given.append((options.cell_timeout, options.load_timeout))
        return executor_of(matrix, RunOptions(), folder)

    monkeypatch.setattr("bench.execution.reproduce.executor_of", executor)
    again = ["reproduce", "grad_scalar", "-r", tmp_path / "run"]
    shown = output_of(*again)
    assert "the same failure" in shown
    assert "then: failed: CellTimeoutError: took longer than 0.5 s" in shown
    output_of(*again, "--cell-timeout", "0", code=2)
    output_of(*again, "--cell-timeout", "100")
    assert given == [(0.5, 3600.0), (100.0, 3600.0)]
