"""What the matrix itself costs a cell, in what can be counted: files opened and steps of Python.

`tests/speed/test_matrix.py` has the seconds.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.execution.plan import Plan
from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from bench.matrix.options import RunOptions
from bench.store.upkeep import Survey
from reports.load import load
from tests.small import steps
from tests.trivial import Trivial, trivial_matrix

FEW, MANY = 6, 26


class _Opened:
    """Paths that this process opens, while somebody watches. Audit hooks cannot be taken away."""

    def __init__(self) -> None:
        self.watching = False
        self.paths: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.watching and event == "open":
            self.paths.append(str(arguments[0]))

    @contextmanager
    def within(self, folder: Path) -> Iterator[list[str]]:
        """The paths below a folder that are opened in the block."""
        self.paths, self.watching = [], True
        found: list[str] = []
        try:
            yield found
        finally:
            self.watching = False
            found += [path for path in self.paths if path.startswith(str(folder))]


@pytest.fixture(scope="module")
def opened() -> _Opened:
    return _Opened()


@pytest.fixture(scope="module")
def opens(
    opened: _Opened, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    """Files opened a cell by a run, by one that finds everything done, and for a report."""
    counts: dict[str, list[int]] = {"run": [], "resume": [], "report": []}
    for number in (FEW, MANY):
        folder = tmp_path_factory.mktemp("runs") / str(number)
        matrix = trivial_matrix(tiny_folder, number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.execution.run.executor_of", lambda *_: Trivial())
            actions: dict[str, Callable[[], object]] = {
                "run": lambda: run_matrix(matrix, folder),  # noqa: B023
                "resume": lambda: run_matrix(matrix, folder),  # noqa: B023
                "report": lambda: load(folder).table,  # noqa: B023
            }
            for name, action in actions.items():
                with opened.within(folder) as paths:
                    action()
                counts[name].append(len(paths))
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
        cells = expand(matrix, lambda name: name, lambda device: "cpu")
        assert len(Plan.of(cells, Survey(), RunOptions(), tiny_folder).left) == number

    plan(2)
    first, few, many = (steps(lambda: plan(number)) for number in (2, 42, 402))  # noqa: B023
    assert (many - first) / 400 < 1.2 * (few - first) / 40
