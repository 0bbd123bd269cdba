"""What 10,000 cells cost beside their computation: at most 5 ms each, and 20 s for a report.

The cells are real ones of a tiny model: one of every method is computed, and what came of it is
stored again under the identity of every other cell.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.execution.run import run_matrix
from bench.matrix.schema import Matrix
from bench.models.tiny import save_tiny
from bench.store.results import RunStore
from reports.load import load
from tests.small import task_texts
from tests.speed.conftest import REGRESSION
from tests.trivial import Trivial, trivial_matrix

N_CELLS = 10_000
A_CELL = 0.005
"""Seconds that planning, storing and resuming may add to a cell, all three together."""
REPORT = 20.0
"""Seconds that loading the results for a report may take."""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    folder = save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", task_texts())
    return trivial_matrix(folder, N_CELLS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the run that the first benchmark makes, and the others find."""
    return tmp_path_factory.mktemp("runs") / "large"


@pytest.fixture
def measured(benchmark: Any) -> Callable[..., float]:
    """Seconds that a call takes, once."""

    def measure(what: str, function: Callable[[], object], limit: float) -> float:
        benchmark.pedantic(function, rounds=1, warmup_rounds=0)
        seconds = float(benchmark.stats.stats.max)
        each = 1000 * seconds / N_CELLS
        benchmark.extra_info.update(seconds=seconds, milliseconds_a_cell=each, limit=limit)
        print(f"\n{what}: {seconds:.1f} s, {each:.2f} ms a cell, at most {limit:.0f} s")
        return seconds

    return measure


def test_planning_storing_and_resuming(
    matrix: Matrix, directory: Path, measured: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Trivial()
    monkeypatch.setattr("bench.execution.run.executor_of", lambda *_: executor)

    def all_three() -> None:
        assert len(run_matrix(matrix, directory).computed) == N_CELLS
        assert len(run_matrix(matrix, directory).known) == N_CELLS

    limit = A_CELL * N_CELLS
    seconds = measured("planning, storing, resuming", all_three, limit)
    assert seconds <= limit * REGRESSION


def test_loading_for_a_report(directory: Path, measured: Callable[..., float]) -> None:
    assert len(RunStore.open(directory).stored()) == N_CELLS
    seconds = measured("loading for a report", lambda: load(directory).table, REPORT)
    assert seconds <= REPORT * REGRESSION
