"""Finished cells of other runs: cells with the same content have the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.evaluation.compute import identity
from bench.matrix.cells import PlannedCell
from bench.matrix.identity import same_content
from bench.store.cells import CorruptCellError
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.run_record import content_of
from bench.store.upkeep import NOT_KEPT
from tasks.errors import UserInputError


@dataclass(frozen=True)
class Source:
    """Where a cell lies: a run, its id there, and its record without what only reports need."""

    store: RunStore
    cell_id: str
    record: CellRecord


def sources(cells: Iterable[PlannedCell], runs: Sequence[Path]) -> dict[str, Source]:
    """Where other runs have the cells, finished and sound, by their id here.

    The first run that has a cell done is taken; one in which it failed, or is damaged, is not.

    Raises:
        UserInputError: for a directory that is no run.
    """
    known: dict[str, list[tuple[RunStore, str]]] = {}
    for directory in runs:
        store = RunStore.open(directory)
        for cell_id in sorted(store.stored()):
            known.setdefault(content_of(cell_id), []).append((store, cell_id))
    found = {}
    for cell in cells:
        for store, cell_id in known.get(content_of(cell.id), ()):
            try:
                record = store.check(cell_id)
            except CorruptCellError:
                continue
            if _serves(record, cell):
                slim = record.model_copy(update=NOT_KEPT)
                found[cell.id] = Source(store, cell_id, slim)
                break
    return found


def runs(directory: Path, others: Sequence[Path]) -> list[Path]:
    """Where to look: the run itself, whose cells may bear the names of an earlier matrix, first."""
    try:
        RunStore.open(directory)
    except UserInputError:  # there is none yet, or its run.json is damaged, which is said elsewhere
        return list(others)
    return [directory, *others]


def take_over(cell: PlannedCell, source: Source, target: RunStore) -> None:
    """Stores another run's cell as this one, with a note of where it comes from."""
    other = source.store.read(source.cell_id)
    provenance = {**other.record.provenance, "reused_from": str(source.store.directory)}
    update = {**identity(cell), "provenance": provenance}
    target.write(other.record.model_copy(update=update), other.tensors)


def _serves(record: CellRecord, cell: PlannedCell) -> bool:
    return record.status == "done" and same_content(record.settings, cell.settings)
