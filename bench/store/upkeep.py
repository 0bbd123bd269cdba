"""Keeping a run directory in order: everything looked at, nothing damaged, nothing left over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.store.cells import CorruptCellError
from bench.store.files import TEMPORARY, remove, set_aside
from bench.store.layout import (
    CELL_FILE,
    CELLS,
    OF_A_RUN,
    RUN_FILE,
    TENSOR_FILE,
    check_links,
    writing,
)
from bench.store.records import CellRecord
from bench.store.results import CorruptRunError, RunStore
from bench.store.run_record import check_cell_id, content_of

NOT_KEPT: dict[str, Any] = {"prompts": {}, "metrics": [], "top_tokens": {}, "grid": None}
"""Of 10,000 records this is what would fill the memory."""


@dataclass
class Survey:
    """Every cell of a run directory, looked at once, tensors included.

    Attributes:
        cells: the records of sound cells by id, without what only reports need (prompts, metrics).
        problems: what is damaged, or foreign within a cell, and why.
        foreign: what is not of the suite and does not touch it: named, and left alone.
    """

    cells: dict[str, CellRecord] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    foreign: list[Path] = field(default_factory=list)

    def having(self, status: str) -> set[str]:
        """The ids of the sound cells with this status."""
        return {cell.id for cell in self.cells.values() if cell.status == status}


@dataclass(frozen=True)
class CellStates:
    """Which planned cells of a run are done, failed, missing, or there under another name.

    A cell is taken over by what it computes, whatever it is called: a finished cell with the
    content of one that is not done is no left-over, though it bears the name of an earlier matrix.

    Attributes:
        cells: ids of the planned ones.
        done: ids of those that are done.
        failed: records of those that failed.
        known_again: ids of planned cells that are not done and lie here under another name.
        stale: ids of finished and failed cells that the matrix has no use for.
    """

    cells: Sequence[str]
    done: list[str]
    failed: list[CellRecord]
    known_again: list[str]
    stale: list[str]

    @staticmethod
    def of(planned: Sequence[str], found: Survey) -> CellStates:
        """The states of planned cells in what a survey found."""
        done, failed = found.having("done"), found.having("failed")
        left = {content_of(name): name for name in planned if name not in done}
        others = sorted(set(found.cells).difference(planned))
        wanted = {name for name in others if name in done and content_of(name) in left}
        return CellStates(
            planned,
            [name for name in planned if name in done],
            [found.cells[name] for name in planned if name in failed],
            sorted({left[content_of(name)] for name in wanted}),
            [name for name in others if name not in wanted],
        )

    @property
    def missing(self) -> int:
        """How many are neither done nor failed under their own name."""
        return len(self.cells) - len(self.done) - len(self.failed)


def look(directory: Path) -> tuple[RunStore, Survey]:
    """A run and everything in it, though its run.json or its cells/ may be damaged or missing."""
    check_links(directory)
    problem = ""
    store = RunStore(directory, {})  # its cells are sound or not by themselves
    if (directory / RUN_FILE).exists():
        try:
            store = RunStore.open(directory)
        except CorruptRunError as error:
            problem = str(error)
    found = survey(store)
    if problem:
        found.problems[directory / RUN_FILE] = problem
    return store, found


def survey(store: RunStore) -> Survey:
    """Read and check all cells and tables of a run."""
    found = Survey()
    cells = store.directory / CELLS
    for path in sorted(cells.iterdir()) if cells.is_dir() else ():
        if path.name.startswith("."):
            continue
        try:
            record = store.check(check_cell_id(path.name))
        except CorruptCellError as error:
            found.problems[path] = error.reason
        except ValueError:
            found.problems[path] = f"{path} is no cell: it has no {CELL_FILE}."
        else:
            found.cells[record.id] = record.model_copy(update=NOT_KEPT)
            for foreign in sorted(path.iterdir()):
                if foreign.name not in (CELL_FILE, TENSOR_FILE):
                    found.problems[foreign] = f"{foreign} is not of the suite."
    found.problems |= store.tables.damaged()
    found.foreign = [*_foreign(store.directory, OF_A_RUN), *_foreign(cells, None)]
    return found


def _foreign(folder: Path, own: frozenset[str] | None) -> Iterator[Path]:
    """What is not among its own names in a folder, hidden folders too; None: of these alone.

    Hidden files are a file manager's, or the suite's while it writes.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            if path.is_dir() and not path.name.startswith(TEMPORARY):
                yield path
        elif own is not None and path.name not in own:
            yield path


def tidy(store: RunStore, found: Survey) -> list[str]:
    """Set aside what a survey found to be damaged, and remove what killed runs left behind.

    Only for the one that holds `only_writer`.

    Returns:
        a sentence for each thing that was damaged.

    Raises:
        NotWritableError: if the disk is full.
    """
    sentences = []
    with writing(store.directory):
        for left in store.directory.glob(f"{TEMPORARY}*"):
            remove(left)
        for path, reason in found.problems.items():
            if path == store.directory / RUN_FILE:
                sentences.append(reason)  # `RunStore.create` keeps a copy
            elif path.parent == store.directory:
                store.tables.forget()
                sentences.append(reason)
            else:
                place = set_aside(store.directory, path, reason)
                sentences.append(f"{reason} It is in {place} now.")
    found.problems.clear()
    return sentences
