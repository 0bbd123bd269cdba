"""What a run has no result for, cell by cell: nothing that was planned is passed over."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pandas import DataFrame
from pydantic import Field

from bench.store.cells import CorruptCellError
from bench.store.files import set_aside_reasons
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.run_record import PlannedRecord
from bench.store.schema import PlainDict, StrictRecord

if TYPE_CHECKING:
    from reports.load import Results

FAILED = "failed"
DAMAGED = "damaged"
SET_ASIDE = "set aside"
NOT_COMPUTED = "not computed"
LEFT_OUT = "of another matrix"
STATUSES = (FAILED, DAMAGED, SET_ASIDE, NOT_COMPUTED, LEFT_OUT)
"""From what a reader has to know first to what is only left over."""
NOT_YET = "the matrix has it, the run does not yet; the same `python -m bench run` computes it"
COLUMNS = ("model", "task", "method", "status", "seed", "draw", "cell", "reason")
LEFT_OVER = (
    "stored, but not a cell of the matrix in run.json, so nothing here is made of it; "
    "`python -m bench rm --stale` removes it"
)


class Missing(StrictRecord):
    """A cell that a report has no numbers of, and why.

    Attributes:
        status: one of `STATUSES`.
        model, task, method, ...: None where nobody knows: of a damaged cell of a run that does not
            say what it planned, the id alone is left.
        varied: its values in the matrix's grids over prompts and objective, where known.
    """

    cell: str
    status: str
    reason: str
    model: str | None = None
    task: str | None = None
    method: str | None = None
    trained: bool | None = None
    control: bool | None = None
    draw: int | None = None
    seed: int | None = None
    varied: PlainDict = Field(default_factory=dict)

    @classmethod
    def of(
        cls, cell_id: str, status: str, reason: str, known: CellRecord | PlannedRecord | None
    ) -> "Missing":
        """Describe a cell by what is known of it."""
        names = ("model", "task", "method", "trained", "control", "draw", "seed")
        found = {name: getattr(known, name) for name in names} if known else {}
        varied = known.varied if isinstance(known, PlannedRecord) else {}
        return cls(cell=cell_id, status=status, reason=reason, varied=varied, **found)

    @property
    def counts(self) -> bool:
        """Whether the run's matrix wants it: what is left over of another one does not count."""
        return self.status != LEFT_OUT


def read(store: RunStore) -> tuple[tuple[CellRecord, ...], tuple[Missing, ...]]:
    """Return the sound records of a run, failed ones too, and all that it has no result for.

    The latter in the order of `STATUSES`.

    Every stored cell is looked at, its tensors included: a cell counts as done only where all that
    it stored is as it was written.
    """
    records: list[CellRecord] = []
    missing: list[Missing] = []
    plan, stored = store.plan, set(store.ids())
    aside = set_aside_reasons(store.directory) if store.planned else {}
    for cell_id in sorted(stored) if store.planned is None else store.planned:
        known = plan.get(cell_id)
        if cell_id not in stored:
            status = SET_ASIDE if cell_id in aside else NOT_COMPUTED
            missing.append(Missing.of(cell_id, status, aside.get(cell_id, NOT_YET), known))
            continue
        try:
            record = store.read(cell_id).record
        except CorruptCellError as error:
            told = known or _record(store, cell_id)
            missing.append(Missing.of(cell_id, DAMAGED, str(error), told))
            continue
        records.append(record)
        if record.error is not None:
            missing.append(Missing.of(cell_id, FAILED, record.error.line, known or record))
    for cell_id in sorted(store.stored().difference(stored)):
        missing.append(Missing.of(cell_id, LEFT_OUT, LEFT_OVER, _record(store, cell_id)))
    missing.sort(key=lambda one: STATUSES.index(one.status))
    return tuple(records), tuple(missing)


def _record(store: RunStore, cell_id: str) -> CellRecord | None:
    try:
        return store.record(cell_id)
    except CorruptCellError:
        return None


def table(results: "Results", *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a cell without a result, with the columns of COLUMNS.

    `status` is failed, damaged (its file or its tensors are not what was written), set aside (it
    was damaged, and moved), not computed (the matrix has it, the run does not), or of another
    matrix (stored, but no cell of this one). Where only the id of a cell is known, it is listed
    where no model and no task is asked for. Raises UserInputError for a model or task that the run
    does not have.
    """
    results.check(model=model, task=task)
    rows = [
        {name: getattr(one, name) for name in COLUMNS}
        for one in results.missing
        if model in (None, one.model) and task in (None, one.task)
    ]
    return DataFrame(rows, columns=list(COLUMNS), dtype=object)


def grouped(missing: Iterable[Missing]) -> list[dict[str, Any]]:
    """Return a row for cells of one method that miss for one reason.

    Keys: status, model, task, method, n_cells, reason, and cell, the id where it is one alone.
    """
    groups: dict[tuple[Any, ...], list[Missing]] = {}
    for one in missing:
        key = (one.status, one.model, one.task, one.method, one.reason)
        groups.setdefault(key, []).append(one)
    return [
        {
            **{"status": status, "model": model, "task": task, "method": method},
            **{"n_cells": len(cells), "reason": reason},
            "cell": cells[0].cell if len(cells) == 1 else None,
        }
        for (status, model, task, method, reason), cells in groups.items()
    ]
