"""Runs a matrix: what is done stays, what fails becomes a record, the rest is computed."""

from __future__ import annotations

import hashlib
import json
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch

from bench import __version__
from bench.agreement import agreement_table
from bench.bridge import resolve_device
from bench.cells import NUMBERS_VERSION, PlannedCell, expand
from bench.compute import compute_cell, identity
from bench.config import Matrix, ModelChoice, PromptCounts
from bench.estimate import estimated_seconds
from bench.models import LoadedModel, load_model, model_digest
from bench.prepare import PreparedTask, prepare_task
from bench.provenance import environment
from bench.records import CellError, CellRecord
from bench.results import RUN_FILE, CorruptRunError, RunStore, Tensors
from bench.upkeep import Survey, only_writer, survey, tidy
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class Progress(Protocol):
    """What wants to know how a run goes on."""

    def set_aside(self, sentences: list[str]) -> None:
        """What was damaged in the run directory, a sentence each."""

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Once, before anything is computed: what is left, how many are done, an estimate."""

    def loading(self, model: str) -> None:
        """A model is loaded and its tasks are prepared."""

    def starting(self, cell: PlannedCell) -> None:
        """A cell is computed."""

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """A cell is stored."""


class Silent:
    """No progress is shown."""

    def set_aside(self, sentences: list[str]) -> None:
        """Nothing."""

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
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
        UserInputError: for a mistake in the matrix, a directory that is not a results directory or
            that another process is writing, a full disk, and a model or task that cannot be had if
            nothing else is left to do (else its cells fail and the others go on). What the
            directory holds stays as it is then.
    """
    progress = progress or Silent()
    directory = output or matrix.output
    if directory is None:
        raise UserInputError("output: say in which directory the results are to be written.")
    cells = expand(matrix, model_digest, resolve_device)
    with ExitStack() as writing:
        found = _survey(Path(directory), writing, progress)
        known = [cell.id for cell in cells if cell.id in found.having("done")]
        left = [cell for cell in cells if cell.id not in set(known)]
        progress.planned(left, len(known), estimated_seconds(left, found.cells.values()))
        ready = _Ready(matrix, progress, left)
        if left:
            # a mistake in the matrix shows here, before the run becomes its own
            ready.prepare(left[0].model)
        store = RunStore.create(
            directory,
            matrix.model_dump(),
            suite_version=__version__,
            cells=[cell.id for cell in cells],
        )
        if found.is_new:
            writing.enter_context(only_writer(store.directory))
            left = [cell for cell in left if not store.has(cell.id)]  # who was faster is done now
        outcome = Outcome(store, known=known)
        try:
            for _, group in groupby(left, key=lambda cell: cell.model):
                _run_model(list(group), ready, outcome, progress)
        finally:
            write_tables(store, matrix.agreement.resamples)
    return outcome


def _survey(directory: Path, writing: ExitStack, progress: Progress) -> Survey:
    """What the directory holds already; from here on this is its only writer.

    What is damaged is set aside.
    """
    if not (directory / RUN_FILE).exists():
        return Survey(is_new=True)
    writing.enter_context(only_writer(directory))
    try:
        store = RunStore.open(directory)
    except CorruptRunError:
        store = RunStore(directory, {})  # its cells are sound or not by themselves
    found = survey(store)
    progress.set_aside(tidy(store, found))
    return found


def write_tables(store: RunStore, resamples: int) -> None:
    """Writes the tidy table and the agreement between methods, unless they are up to date."""
    ids = store.ids()
    content = [NUMBERS_VERSION, resamples, *((name, store.version_of(name)) for name in ids)]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if store.tables.made_of() == digest:
        return
    store.write_tables()
    cells = [store.read(cell_id) for cell_id in ids if store.has(cell_id)]
    store.write_frame("agreement", agreement_table(cells, resamples=resamples))
    store.tables.are_made_of(digest)


Asked = tuple[str, PromptCounts]
"""A task's label and how many of its prompts are asked for: what cells share the prompts of."""


def _asked(cell: PlannedCell) -> Asked:
    return cell.task.label, cell.prompts


@dataclass
class _Ready:
    """The model that is loaded and its tasks, or why they cannot be had.

    Attributes:
        left: all cells that are left to do: what is wrong with all of them ends the run.
    """

    matrix: Matrix
    progress: Progress
    left: list[PlannedCell]
    choice: ModelChoice | None = None
    model: LoadedModel | None = None
    subject: SubjectModel | None = None
    tasks: dict[Asked, PreparedTask] = field(default_factory=dict)
    problems: dict[Asked, UserInputError] = field(default_factory=dict)

    def prepare(self, choice: ModelChoice) -> None:
        """Loads a model, once, and prepares its tasks.

        Raises:
            UserInputError: if that fails for all that is left to do.
        """
        if self.choice == choice:
            return
        self.choice, self.model, self.subject = choice, None, None
        self.tasks, self.problems = {}, {}
        self.progress.loading(choice.name)
        own = [cell for cell in self.left if cell.model == choice]
        named = {_asked(cell): cell.task for cell in own}
        named |= {(other.label, cell.prompts): other for cell in own for other in cell.transfer}
        try:
            self.model = load_model(
                choice.name, dtype=choice.dtype, device=choice.device, packed=choice.packed
            )
            self.subject = SubjectModel(self.model.bridge, self.matrix.rows_per_forward)
        except UserInputError as error:
            if all(cell.model == choice for cell in self.left):
                raise
            self.problems = dict.fromkeys(named, error)
            return
        for asked, task in named.items():
            try:
                self.tasks[asked] = prepare_task(
                    task, asked[1], self.matrix, self.model, self.subject
                )
            except UserInputError as error:
                if len({(cell.model.name, _asked(cell)) for cell in self.left}) == 1:
                    raise
                self.problems[asked] = error


def _run_model(
    cells: list[PlannedCell], ready: _Ready, outcome: Outcome, progress: Progress
) -> None:
    """Runs the cells of one model."""
    ready.prepare(cells[0].model)
    for cell in cells:
        progress.starting(cell)
        record = _run_cell(cell, ready, outcome.store)
        if record.status == "done":
            outcome.computed.append(cell.id)
        else:
            outcome.failed.append(record)
        progress.finished(cell, record)


def _run_cell(cell: PlannedCell, ready: _Ready, store: RunStore) -> CellRecord:
    """Computes and stores one cell; an exception becomes a failed record."""
    matrix = ready.matrix
    tensors: Tensors = {}
    try:
        elsewhere = [(other.label, cell.prompts) for other in cell.transfer]
        for asked in (_asked(cell), *elsewhere):
            if asked in ready.problems:
                raise ready.problems[asked]
        assert ready.model is not None
        assert ready.subject is not None
        record, tensors = compute_cell(
            cell,
            ready.model,
            ready.subject,
            ready.tasks[_asked(cell)],
            Objective(**cell.objective.model_dump()),
            matrix.sweep,
            matrix.sparsity,
            _parent_scores(cell, store),
            {asked[0]: ready.tasks[asked] for asked in elsewhere},
        )
    except Exception as error:
        record = _failure(cell, error, ready)
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


def _failure(cell: PlannedCell, error: Exception, ready: _Ready) -> CellRecord:
    """A failed cell: a result with its reason."""
    known = ready.model is not None and ready.subject is not None
    return CellRecord(
        **identity(cell),
        status="failed",
        error=CellError(
            kind=type(error).__name__,
            message=str(error),
            log="".join(traceback.format_exception(error)),
        ),
        provenance=environment(ready.model, ready.subject) if known else {},  # type: ignore[arg-type]
    )
