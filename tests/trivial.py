"""An executor for which every cell is trivial: what is left is what the matrix itself costs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.evaluation.compute import identity
from bench.execution.cell_runner import Watcher
from bench.execution.executor import Computed, LocalExecutor, ScoresOf
from bench.matrix.cells import PlannedCell
from bench.matrix.schema import Matrix
from tests.small import small_matrix


def trivial_matrix(folder: Path, n_cells: int) -> Matrix:
    """So many cells of two methods, half of them each; no interval is drawn."""
    return small_matrix(
        folder,
        methods=["grad_scalar", "dla"],
        controls={"draws": 0},
        seeds=list(range(n_cells // 2)),
        agreement={"resamples": 0},
    )


class Trivial(LocalExecutor):
    """Computes one cell of every method, and gives what came of it for all others."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Any] = {}

    def compute(
        self, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: Watcher
    ) -> Iterator[Computed]:
        for cell in cells:
            if cell.method.label not in self.known:
                (computed,) = super().compute([cell], scores_of, watcher)
                self.known[cell.method.label] = computed
            _, record, tensors = self.known[cell.method.label]
            yield cell, record.model_copy(update=identity(cell)), tensors
