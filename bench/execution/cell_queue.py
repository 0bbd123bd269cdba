"""The cells of a run that wait for a worker, in the order in which they are given out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bench.matrix.cells import PlannedCell

Model = tuple[str, str]
"""What a worker has in its memory: a model as tables call it, and the kind of its device."""


def needs(cell: PlannedCell) -> Model:
    """What a worker has to have loaded for a cell."""
    return cell.model_label, cell.settings["model"]["device"]


class CellQueue:
    """Cells that wait for a worker, by model; one whose parent is not done yet is held back.

    No step takes longer where there are more cells.
    """

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        ids = {cell.id for cell in cells}
        self.children: dict[str | None, list[PlannedCell]] = {}
        self.queues: dict[Model, deque[PlannedCell]] = {}
        for cell in cells:
            if cell.parent in ids:
                self.children.setdefault(cell.parent, []).append(cell)
            else:
                self.queues.setdefault(needs(cell), deque()).append(cell)

    def __bool__(self) -> bool:
        return any(self.queues.values())

    def put_back(self, cell: PlannedCell) -> None:
        """A cell that waits again is the next one."""
        self.queues.setdefault(needs(cell), deque()).appendleft(cell)

    def take(self, fits: Sequence[Model], loaded: Model | None) -> PlannedCell | None:
        """The next cell for a worker, of the model it has loaded if there is one left."""
        models = [model for model in fits if self.queues[model]]
        if not models:
            return None
        return self.queues[loaded if loaded in models else models[0]].popleft()

    def finished(self, cell: PlannedCell) -> None:
        """A cell is stored: those that start from it are next."""
        for child in reversed(self.children.pop(cell.id, [])):
            self.put_back(child)
