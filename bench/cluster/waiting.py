"""Cells that wait for somebody to compute them, in the order of the matrix."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

from bench.matrix.cells import PlannedCell

Loaded = tuple[str, str]
"""What a worker has in its memory: a model's name, and the kind of device that it is on."""


def needs(cell: PlannedCell) -> Loaded:
    """What a worker has to have loaded for a cell."""
    return cell.model.name, cell.settings["model"]["device"]


class Waiting:
    """Cells whose parents are done. Everything takes time that does not grow with the matrix."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self.cells = {cell.id: cell for cell in cells}
        self.rank = {cell.id: place for place, cell in enumerate(cells)}
        self.children: dict[str, list[PlannedCell]] = {}
        self.queues: dict[Loaded, list[tuple[int, str]]] = {}
        for cell in cells:
            if cell.parent in self.cells:
                self.children.setdefault(cell.parent, []).append(cell)
            else:
                self.put(cell)

    def __bool__(self) -> bool:
        return any(self.queues.values())

    @property
    def kinds(self) -> set[str]:
        """The kinds of device that the waiting cells need."""
        return {kind for (_, kind), queue in self.queues.items() if queue}

    def put(self, cell: PlannedCell) -> None:
        """A cell waits, or waits again."""
        queue = self.queues.setdefault(needs(cell), [])
        heapq.heappush(queue, (self.rank[cell.id], cell.id))

    def take(
        self, kinds: Collection[str], loaded: Loaded | None, without: Collection[Loaded] = ()
    ) -> PlannedCell | None:
        """The next cell for a worker; None if there is none for it.

        Args:
            kinds: kinds of device that the worker has.
            loaded: what it has in memory; cells of that come first, so that models change seldom.
            without: what it cannot load.
        """
        able = [
            key
            for key, queue in self.queues.items()
            if queue and key[1] in kinds and key not in without
        ]
        if not able:
            return None
        key = loaded if loaded in able else min(able, key=lambda key: self.queues[key][0])
        return self.cells[heapq.heappop(self.queues[key])[1]]

    def finished(self, cell: PlannedCell) -> None:
        """A cell is stored: those that start from it wait for nothing more."""
        for child in self.children.pop(cell.id, ()):
            self.put(child)
