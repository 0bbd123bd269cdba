"""What computes cells (`Executor`), and the one that does so in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from bench.evaluation.compute import Tensors
from bench.execution.cell_runner import CellRunner, Watcher
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.schema import Matrix
from bench.models.bridge import resolve_device
from bench.models.load import model_digest
from bench.store.records import CellRecord
from tasks.errors import UserInputError

Computed = tuple[PlannedCell, CellRecord, Tensors]
ScoresOf = Callable[[str], NDArray[Any] | None]
"""Id of a cell -> its stored scores, None if it failed."""


class Executor(AbstractContextManager["Executor"], Protocol):
    """Who computes cells: this process, or workers.

    Attributes:
        contents: what models have to hold, by digest: what the run's finished cells were made with.
    """

    contents: dict[str, str]

    def expand(self, matrix: Matrix) -> list[PlannedCell]:
        """A matrix's cells, of the models and devices that are there where they are computed."""

    def check(self, cells: Sequence[PlannedCell]) -> None:
        """Raises UserInputError, before anything is written, for what is wrong with all cells."""

    def compute(
        self, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: Watcher
    ) -> Iterator[Computed]:
        """Yields every cell once it is computed or has failed, every parent before its children.

        Whoever takes one stores it before asking for the next, so that `scores_of` knows it.
        """


class LocalExecutor(Executor):
    """Computes cells in this process, one after the other."""

    def __init__(self) -> None:
        self.runner = CellRunner()
        self.contents = self.runner.contents

    def __exit__(self, *exception: object) -> None:
        self.runner.leave()

    def expand(self, matrix: Matrix) -> list[PlannedCell]:
        """Of this machine's models and devices."""
        return expand(matrix, model_digest, resolve_device)

    def check(self, cells: Sequence[PlannedCell]) -> None:
        """Opens the first cell, so that a mistake in the matrix shows before anything is written.

        Raises:
            UserInputError: if what is wrong with it is wrong with all cells. What is no mistake of
                the user's becomes the reason why cells failed, and the others go on.
        """
        first = cells[0]
        try:
            self.runner.open(first)
        except UserInputError:
            of_model, prompts = self.runner.problem is not None, (first.task, first.prompts)
            if all(
                cell.model == first.model and (of_model or (cell.task, cell.prompts) == prompts)
                for cell in cells
            ):
                raise
        except Exception:
            return  # the same again when the cell is computed, as its result

    def compute(
        self, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: Watcher
    ) -> Iterator[Computed]:
        """One after the other, in the order of the matrix."""
        self.runner.watcher = watcher
        for cell in cells:
            scores = None if cell.parent is None else scores_of(cell.parent)
            yield cell, *self.runner.compute(cell, scores)
