"""Runs a matrix: what is done stays, what fails becomes a record, the rest is computed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch

from bench import __version__
from bench.agreement import agreement_table
from bench.bridge import resolve_device
from bench.cells import NamedTask, PlannedCell, expand
from bench.compute import compute_cell, environment, identity
from bench.config import Matrix, ModelChoice
from bench.models import LoadedModel, load_model, model_digest
from bench.prepare import PreparedTask, prepare_task
from bench.records import CellError, CellRecord
from bench.results import RunStore
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class Progress(Protocol):
    """What wants to know how a run goes on."""

    def planned(self, cells: list[PlannedCell], done: int) -> None:
        """Once, before anything is computed: what is left to do, and how many are done."""

    def loading(self, model: str) -> None:
        """A model is loaded and its tasks are prepared."""

    def starting(self, cell: PlannedCell) -> None:
        """A cell is computed."""

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """A cell is stored."""


class Silent:
    """No progress is shown."""

    def planned(self, cells: list[PlannedCell], done: int) -> None:
        """Nothing."""

    def loading(self, model: str) -> None:
        """Nothing."""

    def starting(self, cell: PlannedCell) -> None:
        """Nothing."""

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Nothing."""


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        store: where everything is.
        computed: ids of the cells of this run that are new.
        known: ids of the cells that were done before.
        failed: records of the cells that failed in this run.
    """

    store: RunStore
    computed: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    failed: list[CellRecord] = field(default_factory=list)


def run_matrix(
    matrix: Matrix, output: str | Path | None = None, progress: Progress | None = None
) -> Outcome:
    """Computes every cell of a matrix that is not in the output directory yet.

    Args:
        matrix: what to run.
        output: the results directory; the matrix's own if None.
        progress: is told how the run goes on.

    Raises:
        UserInputError: for a mistake in the matrix, a model that cannot be had, prompts that break
            a rule, or a directory that is not a results directory. Cells that are done stay.
    """
    progress = progress or Silent()
    directory = output or matrix.output
    if directory is None:
        raise UserInputError("output: say in which directory the results are to be written.")
    cells = expand(matrix, model_digest, resolve_device)
    store = RunStore.create(
        directory,
        matrix.model_dump(),
        suite_version=__version__,
        cells=[cell.id for cell in cells],
    )
    outcome = Outcome(store, known=[cell.id for cell in cells if store.has(cell.id)])
    done = set(outcome.known)
    left = [cell for cell in cells if cell.id not in done]
    progress.planned(left, len(done))
    for choice, group in groupby(left, key=lambda cell: cell.model):
        _run_model(choice, list(group), matrix, outcome, progress)
    if left or not (store.directory / "agreement.parquet").is_file():
        write_tables(store, matrix.agreement.resamples)
    return outcome


def write_tables(store: RunStore, resamples: int) -> None:
    """Writes the tidy table and the agreement between methods, as Parquet and CSV."""
    store.write_tables()
    cells = [store.read(cell_id) for cell_id in store.ids() if store.has(cell_id)]
    store.write_frame("agreement", agreement_table(cells, resamples=resamples))


def _run_model(
    choice: ModelChoice,
    cells: list[PlannedCell],
    matrix: Matrix,
    outcome: Outcome,
    progress: Progress,
) -> None:
    """Loads a model once and runs its cells."""
    progress.loading(choice.name)
    model = load_model(choice.name, dtype=choice.dtype, device=choice.device, packed=choice.packed)
    subject = SubjectModel(model.bridge, matrix.rows_per_forward)
    tasks = {
        named.label: prepare_task(named, matrix, model, subject) for named in _distinct_tasks(cells)
    }
    for cell in cells:
        progress.starting(cell)
        record = _run_cell(cell, model, subject, tasks[cell.task.label], matrix, outcome.store)
        if record.status == "done":
            outcome.computed.append(cell.id)
        else:
            outcome.failed.append(record)
        progress.finished(cell, record)


def _distinct_tasks(cells: list[PlannedCell]) -> Iterator[NamedTask]:
    return iter({cell.task.label: cell.task for cell in cells}.values())


def _run_cell(
    cell: PlannedCell,
    model: LoadedModel,
    subject: SubjectModel,
    task: PreparedTask,
    matrix: Matrix,
    store: RunStore,
) -> CellRecord:
    """Computes and stores one cell; an exception becomes a failed record."""
    try:
        objective = Objective(**matrix.objective.model_dump())
        parent = _parent_scores(cell, store)
        record, tensors = compute_cell(cell, model, subject, task, objective, matrix.sweep, parent)
    except Exception as error:
        record, tensors = _failure(cell, error, model, subject), {}
    store.write(record, tensors)
    return record


def _parent_scores(cell: PlannedCell, store: RunStore) -> torch.Tensor | None:
    """The stored scores of the cell that this one starts from.

    Raises:
        ParentFailedError: if that cell failed.
    """
    if cell.parent is None:
        return None
    if not store.has(cell.parent):
        raise ParentFailedError(f"the cell whose scores this one starts from failed: {cell.parent}")
    return torch.from_numpy(store.read(cell.parent).tensors["scores"])


class ParentFailedError(UserInputError):
    """The cell whose scores another one starts from has failed."""


def _failure(
    cell: PlannedCell, error: Exception, model: LoadedModel, subject: SubjectModel
) -> CellRecord:
    """A failed cell: a result with its reason."""
    return CellRecord(
        **identity(cell),
        status="failed",
        error=CellError(
            kind=type(error).__name__,
            message=str(error),
            log="".join(traceback.format_exception(error)),
        ),
        provenance=environment(model, subject),
    )
