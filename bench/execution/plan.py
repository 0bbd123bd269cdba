"""What a run would do: cells that are done, that failed, that other runs have, that are left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.execution.estimate import estimated_seconds
from bench.matrix.cells import PlannedCell
from bench.matrix.identity import same_content
from bench.matrix.options import RunOptions
from bench.store.cells import CorruptCellError
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.run_record import content_of
from bench.store.upkeep import NOT_KEPT, Survey
from tasks.errors import UserInputError, nearest

KEYS = ("model", "task", "method", "seed", "draw")


@dataclass(frozen=True)
class Source:
    """Where a cell lies: a run, its id there, and its record without what only reports need."""

    store: RunStore
    cell_id: str
    record: CellRecord


@dataclass(frozen=True)
class Plan:
    """The cells of a matrix beside what is stored of them.

    Attributes:
        cells: all cells of the matrix, every parent before what starts from it.
        found: what the directory holds.
        done: ids of the cells that are done.
        kept: records of the cells that failed and are not tried again.
        elsewhere: where other runs have cells that are not done here, by id.
        left: the cells to compute, chosen ones and their parents only.
    """

    cells: list[PlannedCell]
    found: Survey
    done: list[str]
    kept: list[CellRecord]
    elsewhere: dict[str, Source]
    left: list[PlannedCell]

    @staticmethod
    def of(cells: list[PlannedCell], found: Survey, options: RunOptions, directory: Path) -> Plan:
        """The plan of a matrix.

        Args:
            cells: of the matrix.
            found: what the directory holds.
            options: what was asked for.
            directory: of the run, whose cells may bear the names of an earlier matrix.

        Raises:
            UserInputError: for an `--only` that names nothing, and a directory that is no run.
        """
        done, failed = found.having("done"), found.having("failed")
        chosen = {cell.id for cell in select(cells, options.only, done)}
        again = set() if options.retry_failed else failed
        to_do = chosen - done
        missing = [cell for cell in cells if cell.id in to_do]
        runs = [RunStore(directory, {}), *map(RunStore.open, options.reuse)]
        elsewhere = sources(missing, runs)
        again -= set(elsewhere)
        tried_before = again & chosen
        return Plan(
            cells,
            found,
            [cell.id for cell in cells if cell.id in done],
            [found.cells[cell.id] for cell in cells if cell.id in tried_before],
            elsewhere,
            [cell for cell in missing if cell.id not in again and cell.id not in elsewhere],
        )


def outlook(plans: Iterable[Plan]) -> tuple[int, float | None]:
    """How many cells are left, and about how long they take in one process; None: nobody knows.

    By what finished cells took, here and where others are taken over from.
    """
    left, known = list[PlannedCell](), list[CellRecord]()
    for plan in plans:
        left += plan.left
        known += plan.found.cells.values()
        known += [source.record for source in plan.elsewhere.values()]
    return len(left), estimated_seconds(left, known)


def sources(cells: Iterable[PlannedCell], runs: Iterable[RunStore]) -> dict[str, Source]:
    """Where runs have the cells, finished and sound, by their id here.

    The first run that has a cell done is taken; one in which it failed, or is damaged, is not.
    """
    known: dict[str, list[tuple[RunStore, str]]] = {}
    for store in runs:
        for cell_id in sorted(store.stored()):
            known.setdefault(content_of(cell_id), []).append((store, cell_id))
    found: dict[str, Source] = {}
    for cell in cells:
        for store, cell_id in known.get(content_of(cell.id), ()):
            try:
                record = store.check(cell_id)
            except CorruptCellError:
                continue
            if record.status == "done" and same_content(record.settings, cell.settings):
                found[cell.id] = Source(store, cell_id, record.model_copy(update=NOT_KEPT))
                break
    return found


def select(
    cells: Sequence[PlannedCell], only: Iterable[str], done: Iterable[str] = ()
) -> list[PlannedCell]:
    """The cells that `only` names, and those that they start from unless these are done.

    Args:
        cells: all cells, parents first.
        only: `key=value` each: values of one key are alternatives, different keys must all hold.
            A task or method goes by its name, its label or its class.
        done: ids of the finished cells.

    Raises:
        UserInputError: for a key or a value that no cell has; names the nearest.
    """
    wanted: dict[str, set[str]] = {}
    for choice in only:
        key, equals, value = choice.partition("=")
        if key not in KEYS or not equals:
            raise UserInputError(
                f'--only: "{choice}" is not KEY=VALUE such as method=activ_scalar.'
                f"{nearest(key, KEYS)}"
            )
        names = {name for cell in cells for name in _names(cell)[key]}
        if value not in names:
            raise UserInputError(f'--only: no cell has the {key} "{value}".{nearest(value, names)}')
        wanted.setdefault(key, set()).add(value)
    chosen = {
        cell.id
        for cell in cells
        if all(values.intersection(_names(cell)[key]) for key, values in wanted.items())
    }
    finished = set(done)
    for cell in reversed(cells):
        if cell.id in chosen and cell.parent and cell.parent not in finished:
            chosen.add(cell.parent)
    return [cell for cell in cells if cell.id in chosen]


def known_choices(cells: Sequence[PlannedCell], only: Sequence[str]) -> tuple[str, ...]:
    """What of `only` names something in these cells; nothing where no cell is named by it all."""
    parts = [choice.partition("=") for choice in only]
    has = {(key, name) for cell in cells for key in KEYS for name in _names(cell)[key]}
    known = [(key, value) for key, _, value in parts if (key, value) in has]
    if {key for key, _ in known} != {key for key, _, _ in parts}:
        return ()
    found = tuple(f"{key}={value}" for key, value in known)
    return found if select(cells, found) else ()


def _names(cell: PlannedCell) -> dict[str, tuple[str, ...]]:
    """What a cell may be called by, for each key."""
    method, task = cell.method, cell.task
    return {
        "model": (cell.model_label, cell.model.name),
        "task": (task.label, task.name, type(task.task).__name__),
        "method": (method.label, method.name, type(method.method).__name__),
        "seed": (str(cell.seed),),
        "draw": (str(method.method.number_of_draw),),
    }
