"""What the matrix itself costs a cell, in what can be counted: files opened and steps of Python.

`tests/speed/test_matrix.py` has the seconds.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.execution.plan import Plan
from bench.execution.run import run_matrix
from bench.matrix.options import RunOptions
from bench.store.upkeep import Survey
from reports.load import load
from tests.small import planned, steps
from tests.trivial import Trivial, trivial_matrix

FEW, MANY = 6, 26


@pytest.fixture(scope="module")
def opened() -> Iterator[list[str]]:
    """Paths that this process opens during these tests. Audit hooks cannot be taken away."""
    paths: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            paths.append(str(arguments[0]))

    sys.addaudithook(hook)
    yield paths
    watching.clear()


@pytest.fixture(scope="module")
def opens(
    opened: list[str], tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    """Files opened a cell by a run, by one that finds everything done, and for a report."""
    counts: dict[str, list[int]] = {"run": [], "resume": [], "report": []}
    for number in (FEW, MANY):
        folder = tmp_path_factory.mktemp("runs") / str(number)
        matrix = trivial_matrix(tiny_folder, number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.execution.run.executor_of", lambda *_: Trivial())
            for name, found in counts.items():
                before = len(opened)
                if name == "report":
                    assert len(load(folder).table)
                else:
                    run_matrix(matrix, folder)
                found.append(sum(path.startswith(str(folder)) for path in opened[before:]))
    return {name: (many - few) / (MANY - FEW) for name, (few, many) in counts.items()}


def test_files_opened_a_cell_are_few(opens: dict[str, float]) -> None:
    """A run: two files and their folders, written and synchronised, and read for the tables.

    One that is done: every byte looked at once, and the seal for the tables. A report: every byte
    looked at once.
    """
    most = {"run": 9, "resume": 3, "report": 2}
    assert opens.keys() == most.keys()
    assert all(0 < opens[name] <= most[name] for name in most), opens


def test_planning_is_linear(tiny_folder: Path) -> None:
    def plan(number: int) -> None:
        matrix = trivial_matrix(tiny_folder, number)
        cells = planned(matrix)
        assert len(Plan.of(cells, Survey(), RunOptions(), tiny_folder).left) == number

    plan(2)
    first, few, many = (steps(lambda: plan(number)) for number in (2, 42, 402))  # noqa: B023
    assert (many - first) / 400 < 1.2 * (few - first) / 40
