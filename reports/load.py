"""A read-only view of a stored run; tensors are read when asked for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.agreement import COLUMNS
from bench.records import CellRecord
from bench.results import Cell, CorruptCellError, RunStore
from bench.table import tidy_table
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Results:
    """What a run holds. `unreadable` says of each damaged cell, by id, what is wrong with it."""

    store: RunStore
    records: tuple[CellRecord, ...]
    unreadable: dict[str, str]
    agreement: "DataFrame"

    @property
    def table(self) -> "DataFrame":
        """The tidy table: one row a cell x split x beta kind (columns: `bench.table.COLUMNS`)."""
        return tidy_table(self.records)

    @property
    def cells(self) -> Iterator[Cell]:
        """All finished cells with their tensors, one after the other."""
        return (self.cell(record.id) for record in self.records if record.status == "done")

    def cell(self, cell_id: str) -> Cell:
        """Return a cell with its tensors. Errors as `RunStore.read`."""
        return self.store.read(cell_id)

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (model, task) of the run, in order."""
        return sorted({(record.model, record.task) for record in self.records})

    def of(self, model: str, task: str) -> list[CellRecord]:
        """Return the records of a model and task; raises UserInputError for unknown names."""
        return self.matching(model, task)

    def matching(self, model: str | None = None, task: str | None = None) -> list[CellRecord]:
        """Return the records of a model and task, of either alone, or all; errors as `of`."""
        given = {"model": model, "task": task}
        self.check(**{kind: name for kind, name in given.items() if name is not None})
        return [
            record
            for record in self.records
            if model in (None, record.model) and task in (None, record.task)
        ]

    def one(self, model: str | None = None, task: str | None = None) -> tuple[str, str]:
        """Return the (model, task) that is meant; either may be None where the run has one only.

        Raises UserInputError for unknown names, and where there are several to choose from.
        """
        pairs = sorted({(record.model, record.task) for record in self.matching(model, task)})
        if len(pairs) == 1:
            return pairs[0]
        found = "; ".join(" · ".join(pair) for pair in pairs) or "none"
        raise UserInputError(
            f"{self.store.directory}: say which model and task is meant. There are: {found}."
        )

    def check(self, **names: str) -> None:
        """Raise UserInputError, naming the nearest, for a model or task that the run lacks."""
        for kind, name in names.items():
            known = {getattr(record, kind) for record in self.records}
            if name not in known:
                where = self.store.directory
                raise UserInputError(f"{where} has no {kind} {name!r}.{nearest(name, known)}")


def load(directory: Path | str) -> Results:
    """Open a results directory for reading; raises UserInputError where it is not one.

    A cell that cannot be read does not end the report: it stands in `unreadable`.
    """
    from pandas import DataFrame, read_parquet

    store = RunStore.open(directory)
    records: list[CellRecord] = []
    unreadable: dict[str, str] = {}
    for cell_id in store.ids():
        try:
            records.append(store.record(cell_id))
        except CorruptCellError as error:
            unreadable[cell_id] = str(error)
    file = store.directory / "agreement.parquet"
    agreement = read_parquet(file) if file.is_file() else DataFrame(columns=[*COLUMNS])
    return Results(store, tuple(records), unreadable, agreement)


def splits_of(records: Iterable[CellRecord]) -> list[str]:
    """Return the splits that the records were evaluated on: train, test, shifted, then others."""
    found = {row.split for record in records for row in record.metrics}
    usual = [split for split in ("train", "test", "shifted") if split in found]
    return usual + sorted(found.difference(usual))
