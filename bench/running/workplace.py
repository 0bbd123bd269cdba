"""Where cells are computed: one model at a time, its tasks made ready, a failure as a result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from bench.evaluation.compute import Tensors, compute_cell
from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.evaluation.provenance import environment, machine
from bench.evaluation.rows import rows_at_hand, sharing, within_memory
from bench.matrix.cells import PlannedCell
from bench.matrix.named import NamedTask
from bench.matrix.schema import Matrix, ModelChoice, PromptCounts
from bench.running.contained import contained
from bench.running.failure import failure, kept
from bench.running.left import Found, method_data
from bench.running.limits import CellTimeoutError, LoadTimeoutError, in_force, limited
from bench.running.opened import OpenedModel, open_model, tf32
from bench.running.torch_state import seeded
from bench.running.weights import Weights
from bench.store.records import CellRecord
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

PREPARING_ROWS = 32
"""Rows of the unsteered forwards of a split, where the matrix does not say how many."""

Asked = tuple[str, PromptCounts]
"""A task's label and how many of its prompts are asked for: what cells share the prompts of."""


class ParentFailedError(UserInputError):
    """The cell whose scores another one starts from has failed."""


class Watcher(Protocol):
    """Who wants to know what is being computed."""

    def loading(self, model: str) -> None:
        """A model is loaded, and tasks are prepared for it."""

    def starting(self, cell: PlannedCell) -> None:
        """A cell is computed; its model is there."""


class Nobody:
    """Is told and does nothing."""

    def loading(self, model: str) -> None:
        """Nothing."""

    def starting(self, cell: PlannedCell) -> None:
        """Nothing."""


@dataclass
class Workplace:
    """A process's place to compute cells.

    Attributes:
        matrix: what all cells share.
        watcher: is told what is going on.
        cell_timeout: seconds that a cell may take; None for any number.
        load_timeout: seconds that loading a model, or preparing a task for it, may take.
        contents: digest of a model -> what it has to hold (`LoadedModel.content`), where known.
        opened: the model of the latest cell, which is that of the next ones too.
        problem: why the model cannot be had; the same for all its cells.
        rows: of a forward, by what cells share (`sharing`).
        given: what the methods of a task's cells are given, as it was prepared.
        spoilt: the model, or what methods are given, is not what it was.
    """

    matrix: Matrix
    watcher: Watcher = field(default_factory=Nobody)
    cell_timeout: float | None = None
    load_timeout: float | None = None
    contents: dict[str, str] = field(default_factory=dict)
    choice: ModelChoice | None = None
    opened: OpenedModel | None = None
    tasks: dict[Asked, PreparedTask | Exception] = field(default_factory=dict)
    problem: Exception | None = None
    rows: dict[str, int] = field(default_factory=dict)
    given: dict[Asked, Weights] = field(default_factory=dict)
    spoilt: bool = False

    def open(self, cell: PlannedCell) -> PreparedTask:
        """Loads the cell's model and prepares its task, unless they are ready.

        Raises:
            Exception: if either cannot be had; the same again for every cell they belong to. A
                UserInputError where the user can mend it.
        """
        if self.choice != cell.model:
            self._load(cell)
        if self.problem is not None:
            raise self.problem.with_traceback(None)
        return self._prepared(cell.task, cell.prompts)

    def _prepared(self, named: NamedTask, prompts: PromptCounts) -> PreparedTask:
        asked = (named.label, prompts)
        if asked not in self.tasks:
            assert self.opened is not None
            assert self.choice is not None
            model, subject = self.opened.model, self.opened.subject
            prepare = partial(prepare_task, named, prompts, self.matrix, model, subject)
            setting = self.matrix.rows_per_forward
            # The same for every task, whatever was computed before it.
            subject.rows_per_forward = PREPARING_ROWS if setting == "auto" else setting
            try:
                with contained(), tf32(self.choice.tf32), Found().left_by(f"the task {asked[0]}"):
                    work = partial(within_memory, subject, prepare)
                    task = limited(work, self.load_timeout, LoadTimeoutError)
                self.tasks[asked] = task
                self.given[asked] = method_data(task.train.prompts, task.grid)
            except Exception as error:
                self.tasks[asked] = kept(error)
        prepared = self.tasks[asked]
        if isinstance(prepared, Exception):
            raise prepared.with_traceback(None)
        return prepared

    def _load(self, cell: PlannedCell) -> None:
        self.leave()
        self.watcher.loading(cell.model.name)
        self.choice = cell.model
        try:
            with contained():
                work = partial(open_model, cell, self.contents)
                self.opened = limited(work, self.load_timeout, LoadTimeoutError)
        except Exception as error:
            self.problem = kept(error)

    def leave(self) -> None:
        """Gives the model back."""
        self.choice = self.opened = self.problem = None
        self.tasks, self.given = {}, {}
        self.spoilt = False

    def _rows_of(self, cell: PlannedCell, task: PreparedTask, subject: SubjectModel) -> int:
        """Rows of a forward: those of the matrix, of the cells before, or what memory takes."""
        setting = self.matrix.rows_per_forward
        if setting != "auto":
            return setting
        known = self.rows.get(sharing(cell.task.label, cell.settings), cell.rows)
        return known or rows_at_hand(subject, max(task.encoded.lengths))

    def compute(
        self, cell: PlannedCell, parent_scores: NDArray[Any] | None
    ) -> tuple[CellRecord, Tensors]:
        """Computes a cell; whatever goes wrong becomes a failed record.

        Args:
            cell: what to compute.
            parent_scores: the scores of the cell that this one starts from, None if that failed.
        """
        start, started = time.perf_counter(), datetime.now(UTC)
        try:
            if cell.parent is not None and parent_scores is None:
                raise ParentFailedError(
                    f"the cell whose scores this one starts from failed: {cell.parent}"
                )
            task = self.open(cell)
            others = {other.label: self._prepared(other, cell.prompts) for other in cell.transfer}
            assert self.opened is not None
            model, subject = self.opened.model, self.opened.subject
            if subject.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(subject.device)
            self.watcher.starting(cell)
            subject.rows_per_forward = self._rows_of(cell, task, subject)
            compute = partial(
                compute_cell,
                cell,
                model,
                subject,
                task,
                Objective(**cell.objective.model_dump()),
                self.matrix.sweep,
                self.matrix.sparsity,
                None if parent_scores is None else torch.from_numpy(parent_scores.copy()),
                others,
            )
            with contained(), tf32(cell.model.tf32), self._left_as_found(cell, self.opened):
                work = partial(within_memory, subject, compute)
                computed = limited(work, self.cell_timeout)
            self.rows[sharing(cell.task.label, cell.settings)] = subject.rows_per_forward
            return computed
        except Exception as error:
            record = failure(cell, error, self._provenance(start, started))
            # A cell whose time is up may have been interrupted anywhere.
            self.spoilt |= isinstance(error, CellTimeoutError)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            return record, {}
        finally:
            if self.spoilt:
                self.leave()

    @contextmanager
    def _left_as_found(self, cell: PlannedCell, opened: OpenedModel) -> Iterator[None]:
        """Raises LeftBehindError if the block leaves anything that cells after it would find."""
        found = Found(opened.found, [self.given[cell.task.label, cell.prompts]])
        self.spoilt = True
        try:
            with seeded(cell.seed), found.left_by(f"the method {cell.method.label}"):
                yield
        finally:
            self.spoilt = not found.clean

    def _provenance(self, start: float, started: datetime) -> dict[str, Any]:
        opened = self.opened
        return {
            **(machine() if opened is None else environment(opened.model, opened.subject)),
            "started": started.isoformat(timespec="seconds"),
            "failed_after_seconds": time.perf_counter() - start,
            **in_force(self.cell_timeout, self.load_timeout),
        }
