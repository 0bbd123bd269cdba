"""Computes cells in this process: one model at a time, its tasks prepared, failures as results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.evaluation.compute import Tensors, compute_cell
from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.evaluation.provenance import environment, machine
from bench.evaluation.rows import rows_at_hand, sharing, within_memory
from bench.execution.failure import failure, kept
from bench.execution.unchanged import left_unchanged, seeded
from bench.matrix.cells import PlannedCell
from bench.matrix.named import NamedTask
from bench.matrix.schema import ModelChoice, PromptCounts
from bench.models.load import STATED, LoadedModel, load_model, stated_of
from bench.store.records import CellRecord
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError, no_exit

OpenedModel = tuple[LoadedModel, SubjectModel]
PREPARING_ROWS = 32
"""Rows of the unsteered forwards of a split, where the matrix does not say how many."""

Asked = tuple[str, PromptCounts]
"""A task's label and how many of its prompts are asked for: what cells share the prompts of."""


class ParentFailedError(UserInputError):
    """The cell whose scores another one starts from has failed."""


class OtherModelError(UserInputError):
    """The model that was loaded is not the one that the cell is about."""


class Watcher:
    """Is told how a run goes on; this one does nothing with it."""

    def note(self, sentence: str) -> None:
        """What was damaged in the run directory, or why a worker cannot take part."""

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Once, before anything is computed: what is left, how many are done, an estimate."""

    def loading(self, model: str) -> None:
        """A model is loaded, and tasks are prepared for it."""

    def starting(self, cell: PlannedCell) -> None:
        """A cell is computed; its model is there."""

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        """A cell that was being computed waits again."""

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """A cell is stored."""


@dataclass
class CellRunner:
    """Computes cells in this process.

    Attributes:
        watcher: is told what is going on.
        contents: digest of a model -> what it has to hold (`LoadedModel.content`), where known.
        choice: the model of the latest cell, as the matrix names it.
        opened: that model, as it is loaded and as methods see it; None where it cannot be had.
        tasks: what was prepared for that model, or why it could not be.
        problem: why the model cannot be had; the same for all its cells.
        rows: of a forward, by what cells share (`sharing`).
        summed: methods whose first cell on this model was compared weight by weight.
        left: what the latest cell left otherwise of the model, or of what methods are given.
    """

    watcher: Watcher = field(default_factory=Watcher)
    contents: dict[str, str] = field(default_factory=dict)
    choice: ModelChoice | None = None
    opened: OpenedModel | None = None
    tasks: dict[Asked, PreparedTask | Exception] = field(default_factory=dict)
    problem: Exception | None = None
    rows: dict[str, int] = field(default_factory=dict)
    summed: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)

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
        return self._prepared(cell, cell.task)

    def _prepared(self, cell: PlannedCell, named: NamedTask) -> PreparedTask:
        prepared = self._tried(cell, named)
        if isinstance(prepared, Exception):
            raise prepared.with_traceback(None)
        return prepared

    def _tried(self, cell: PlannedCell, named: NamedTask) -> PreparedTask | Exception:
        """The prepared task, or why it cannot be."""
        asked = (named.label, cell.prompts)
        if asked not in self.tasks:
            assert self.opened is not None
            assert self.choice is not None
            model, subject = self.opened
            prepare = partial(prepare_task, named, cell, model, subject)
            setting = cell.settings["rows_per_forward"]
            # The same for every task, whatever was computed before it.
            subject.rows_per_forward = PREPARING_ROWS if setting == "auto" else setting
            try:
                with (
                    no_exit(),
                    tf32(self.choice.tf32),
                    left_unchanged(subject, f"the task {asked[0]}"),
                ):
                    self.tasks[asked] = within_memory(subject, prepare)
            except Exception as error:
                self.tasks[asked] = kept(error)
        return self.tasks[asked]

    def _load(self, cell: PlannedCell) -> None:
        self.leave()
        self.watcher.loading(cell.model.name)
        self.choice = cell.model
        try:
            with no_exit():
                self.opened = open_model(cell, self.contents)
        except Exception as error:
            self.problem = kept(error)

    def leave(self) -> None:
        """Gives the model back."""
        self.choice = self.opened = self.problem = None
        self.tasks, self.summed, self.left = {}, set(), []

    def _rows_of(self, cell: PlannedCell, task: PreparedTask, subject: SubjectModel) -> int:
        """Rows of a forward: those of the matrix, of the cells before, or what memory takes."""
        setting: int | str = cell.settings["rows_per_forward"]
        if isinstance(setting, int):
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
            others = {other.label: self._prepared(cell, other) for other in cell.transfer}
            elsewhere = {other.label: self._tried(cell, other) for other in cell.elsewhere}
            assert self.opened is not None
            model, subject = self.opened
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
                None if parent_scores is None else torch.from_numpy(parent_scores.copy()),
                others,
                elsewhere,
            )
            with no_exit(), tf32(cell.model.tf32), self._unchanged(cell, task, subject):
                computed = within_memory(subject, compute)
            self.rows[sharing(cell.task.label, cell.settings)] = subject.rows_per_forward
            return computed
        except Exception as error:
            if self.opened is not None and isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            record = failure(cell, error, self._provenance(start, started))
            if self.left:
                self.leave()  # the next cell gets the model as it was loaded
            return record, {}

    @contextmanager
    def _unchanged(
        self, cell: PlannedCell, task: PreparedTask, subject: SubjectModel
    ) -> Iterator[None]:
        """Raises LeftBehindError if the block leaves anything that cells after it would find."""
        prompts = vars(task.train.prompts).items()
        given = {f"prompts.{name}": value for name, value in prompts if isinstance(value, Tensor)}
        given["grid.included"] = task.grid.included
        first = cell.method.label not in self.summed  # all weights are read once a method
        self.summed.add(cell.method.label)
        who = f"the method {cell.method.label}"
        with seeded(cell.seed), left_unchanged(subject, who, given, checksum=first) as left:
            try:
                yield
            finally:
                self.left = left

    def _provenance(self, start: float, started: datetime) -> dict[str, Any]:
        opened = self.opened
        return {
            **(machine() if opened is None else environment(*opened)),
            "started": started.isoformat(timespec="seconds"),
            "failed_after_seconds": time.perf_counter() - start,
        }


def open_model(cell: PlannedCell, contents: dict[str, str]) -> OpenedModel:
    """The model of a cell, as it is loaded and as methods see it.

    Args:
        cell: what it is for.
        contents: digest of a model -> what it has to hold (`LoadedModel.content`), where known;
            what this one holds is added.

    Raises:
        OtherModelError: for another model than was planned, pinned, or used before.
        Exception: if it cannot be had. A UserInputError where the user can mend it.
    """
    choice = cell.model
    model = load_model(
        choice.name,
        dtype=choice.dtype,
        device=choice.device,
        packed=choice.packed and choice.autocast == "none",
        bos=choice.bos,
    )
    _check(model, cell, contents.get(model.digest))
    contents[model.digest] = model.content
    autocast = None if choice.autocast == "none" else getattr(torch, choice.autocast)
    subject = SubjectModel(model.bridge, autocast=autocast)
    with torch.no_grad():  # the bridge adds hooks of its own at its first forward
        subject.logits(torch.arange(2, device=subject.device).view(1, 2))
    subject.passes.forward = 0
    return model, subject


def _check(model: LoadedModel, cell: PlannedCell, before: str | None) -> None:
    settings, pinned = cell.settings["model"], cell.model.digest
    planned, stated = settings["digest"], {key: settings[key] for key in STATED & {*settings}}
    entry = {**stated_of(model.name), **cell.model.stated}
    problem = ""
    if model.digest != planned:
        problem = f"has the digest {model.digest}, but the matrix was planned with {planned}"
    elif pinned is not None and pinned not in (model.digest, model.content):
        problem = f"holds {model.content}, but the matrix asks for the digest {pinned}"
    elif entry != stated:
        problem = f"has the entry {entry}, but was planned with {stated}"
    elif before not in (None, model.content):
        problem = f"holds {model.content}, but finished cells were made with {before}"
    if problem:
        raise OtherModelError(
            f'Model "{cell.model.name}": what is loaded here {problem}. It was changed since, '
            "or is another one on this machine."
        )


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether matrix products on CUDA may round their factors to ten bits of mantissa."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
