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
from bench.models.load import STATED, LoadedModel, load_model, stated_of
from bench.running.contained import contained
from bench.running.failure import failure, kept
from bench.running.left import Found, method_data
from bench.running.limits import CellTimeoutError, LoadTimeoutError, in_force, limited
from bench.running.model_state import ModelState
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


class OtherModelError(UserInputError):
    """The model that was loaded is not the one that the cell is about."""


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
        problem: why the model cannot be had; the same for all its cells.
        rows: of a forward, by what cells share (`sharing`).
        found: the model as it was loaded, which every cell has to leave it as.
        given: what the methods of a task's cells are given, as it was prepared.
        spoilt: the model, or what methods are given, is not what it was.
    """

    matrix: Matrix
    watcher: Watcher = field(default_factory=Nobody)
    cell_timeout: float | None = None
    load_timeout: float | None = None
    contents: dict[str, str] = field(default_factory=dict)
    choice: ModelChoice | None = None
    model: LoadedModel | None = None
    subject: SubjectModel | None = None
    tasks: dict[Asked, PreparedTask | Exception] = field(default_factory=dict)
    problem: Exception | None = None
    rows: dict[str, int] = field(default_factory=dict)
    found: ModelState | None = None
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
            assert self.model is not None
            assert self.subject is not None
            prepare = partial(prepare_task, named, prompts, self.matrix, self.model, self.subject)
            assert self.choice is not None
            setting = self.matrix.rows_per_forward
            # The same for every task, whatever was computed before it.
            self.subject.rows_per_forward = PREPARING_ROWS if setting == "auto" else setting
            try:
                with contained(), tf32(self.choice.tf32), Found().left_by(f"the task {asked[0]}"):
                    work = partial(within_memory, self.subject, prepare)
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
                work = partial(self._loaded, cell)
                self.model, self.subject, self.found = limited(
                    work, self.load_timeout, LoadTimeoutError
                )
        except Exception as error:
            self.problem = kept(error)

    def _loaded(self, cell: PlannedCell) -> tuple[LoadedModel, SubjectModel, ModelState]:
        choice = cell.model
        model = load_model(
            choice.name,
            dtype=choice.dtype,
            device=choice.device,
            packed=choice.packed and choice.autocast == "none",
        )
        self._check_model(model, cell)
        autocast = None if choice.autocast == "none" else getattr(torch, choice.autocast)
        subject = SubjectModel(model.bridge, autocast=autocast)
        with tf32(choice.tf32):
            return model, subject, ModelState(subject)

    def _check_model(self, model: LoadedModel, cell: PlannedCell) -> None:
        """Raises OtherModelError for another model than was planned, pinned, or used before."""
        settings = cell.settings["model"]
        planned, stated = settings["digest"], {key: settings[key] for key in STATED & {*settings}}
        pinned, before = cell.model.digest, self.contents.get(model.digest)
        problem = ""
        if model.digest != planned:
            problem = f"has the digest {model.digest}, but the matrix was planned with {planned}"
        elif pinned is not None and pinned not in (model.digest, model.content):
            problem = f"holds {model.content}, but the matrix asks for the digest {pinned}"
        elif stated_of(model.name) != stated:
            problem = f"has the entry {stated_of(model.name)}, but was planned with {stated}"
        elif before not in (None, model.content):
            problem = f"holds {model.content}, but finished cells were made with {before}"
        if problem:
            raise OtherModelError(
                f'Model "{cell.model.name}": what is loaded here {problem}. It was changed since, '
                "or is another one on this machine."
            )
        self.contents[model.digest] = model.content

    def leave(self) -> None:
        """Gives the model back."""
        self.choice = self.model = self.subject = self.problem = self.found = None
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
            assert self.model is not None
            assert self.subject is not None
            if self.subject.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.subject.device)
            self.watcher.starting(cell)
            self.subject.rows_per_forward = self._rows_of(cell, task, self.subject)
            compute = partial(
                compute_cell,
                cell,
                self.model,
                self.subject,
                task,
                Objective(**cell.objective.model_dump()),
                self.matrix.sweep,
                self.matrix.sparsity,
                None if parent_scores is None else torch.from_numpy(parent_scores.copy()),
                others,
            )
            with contained(), tf32(cell.model.tf32), self._left_as_found(cell):
                work = partial(within_memory, self.subject, compute)
                computed = limited(work, self.cell_timeout)
            self.rows[sharing(cell.task.label, cell.settings)] = self.subject.rows_per_forward
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
    def _left_as_found(self, cell: PlannedCell) -> Iterator[None]:
        """Raises LeftBehindError if the block leaves anything that cells after it would find."""
        found = Found(self.found, [self.given[cell.task.label, cell.prompts]])
        self.spoilt = True
        try:
            with seeded(cell.seed), found.left_by(f"the method {cell.method.label}"):
                yield
        finally:
            self.spoilt = not found.clean

    def _provenance(self, start: float, started: datetime) -> dict[str, Any]:
        known = self.model is not None and self.subject is not None
        return {
            **(environment(self.model, self.subject) if known else machine()),  # type: ignore[arg-type]
            "started": started.isoformat(timespec="seconds"),
            "failed_after_seconds": time.perf_counter() - start,
            **in_force(self.cell_timeout, self.load_timeout),
        }


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether matrix products on CUDA may round their factors to ten bits of mantissa."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
