"""Finished cells of other runs: cells with the same content have the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cells import PlannedCell, content_of, same_content
from bench.compute import identity
from bench.results import CorruptCellError, RunStore

Source = tuple[RunStore, str]
"""A run, and the id that a cell has there."""


def sources(cells: Iterable[PlannedCell], runs: Sequence[Path]) -> dict[str, Source]:
    """Where other runs have the cells, by their id here.

    Raises:
        UserInputError: for a directory that is no run.
    """
    known: dict[str, Source] = {}
    for directory in runs:
        store = RunStore.open(directory)
        for cell_id in store.stored():
            known.setdefault(content_of(cell_id), (store, cell_id))
    found = ((cell.id, known.get(content_of(cell.id))) for cell in cells)
    return {cell_id: source for cell_id, source in found if source is not None}


def take_over(cell: PlannedCell, source: Source, target: RunStore) -> bool:
    """Stores another run's cell as this one, with a note of where it comes from.

    Returns:
        Whether that was possible: the other one is sound, done, and has the same content.
    """
    store, cell_id = source
    try:
        other = store.read(cell_id)
    except CorruptCellError:
        return False
    if other.record.status != "done" or not same_content(other.record.settings, cell.settings):
        return False
    provenance = {**other.record.provenance, "reused_from": str(store.directory)}
    update = {**identity(cell), "provenance": provenance}
    target.write(other.record.model_copy(update=update), other.tensors)
    return True
