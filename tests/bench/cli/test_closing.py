"""The last lines of a run say what was done and what was not, and no more than one can read."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from bench.cli.run import close_run, what_was_done
from bench.execution.run import Outcome, run_matrix
from bench.matrix.options import RunOptions
from bench.store.records import CellError
from bench.store.results import RunStore
from methods.controls import Random
from tasks.text import counted
from tests.bench.cli.test_cli import command
from tests.bench.store.test_results import failed
from tests.small import brief_matrix


def test_what_only_leaves_out_is_not_said_to_be_done(tiny_folder: Path, tmp_path: Path) -> None:
    matrix = brief_matrix(tiny_folder)

    def said(*methods: str, reuse: Path | None = None, place: str = "run") -> list[str]:
        only = tuple(f"method={method}" for method in methods)
        options = RunOptions(only=only, reuse=(reuse,) if reuse else ())
        return list(what_was_done(run_matrix(matrix, tmp_path / place, options=options)))

    others = "3 other cells of the matrix are not done: --only left them out."
    assert said("random") == [others]
    before = "Every cell that --only names was done before: nothing was computed."
    assert said("random") == [before, others]
    over = "1 finished cell was taken over, from another run or under another name."
    assert said("random", reuse=tmp_path / "run", place="new") == [over, others]
    assert said() == []
    assert said() == ["Every cell of this matrix was done before: nothing was computed."]


def test_one_cell_that_failed_is_one_cell(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fit(*arguments: object) -> None:
        raise ValueError("x" * 1_000_000)

    monkeypatch.setattr(Random, "fit", fit)
    matrix = brief_matrix(tiny_folder, output=str(tmp_path / "run"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(matrix.model_dump()))
    assert command(monkeypatch, "run", str(tmp_path / "mine.yaml")) == 1
    shown = capsys.readouterr().out
    assert "\n1 cell failed:\n" in shown
    assert "1 cell without a result" in shown
    assert len(shown) < 10_000
    assert (tmp_path / "run" / "results.csv").stat().st_size < 50_000
    assert command(monkeypatch, "status", str(tmp_path / "run")) == 0
    assert len(capsys.readouterr().out) < 2_000


def test_of_many_reasons_the_first_are_shown(tmp_path: Path) -> None:
    outcome = Outcome(RunStore.create(tmp_path, {}))
    for number in range(25):
        error = CellError(kind="ValueError", message=f"number {number}")
        outcome.failed.append(failed(f"c{number}").model_copy(update={"error": error}))
    console = Console(record=True, width=100, file=StringIO())
    assert close_run(outcome, console) == 1
    shown = console.export_text()
    assert "25 cells failed" in shown
    assert "number 9" in shown
    assert "number 10" not in shown
    assert "and 15 further reasons" in shown


def test_things_are_counted_in_words() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert counted(2, "cell is", "cells are") == "2 cells are"
