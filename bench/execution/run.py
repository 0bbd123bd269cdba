"""Runs a matrix: what is done stays, what fails becomes a record, the rest is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from bench import __version__
from bench.agreement.table import agreement_table
from bench.evaluation.compute import Tensors, identity
from bench.evaluation.rows import sharing, used_rows
from bench.execution.cell_runner import Watcher
from bench.execution.executor import Executor, LocalExecutor
from bench.execution.failure import failure
from bench.execution.plan import Plan, Source, outlook
from bench.matrix.cells import PlannedCell
from bench.matrix.identity import NUMBERS_VERSION
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.plugins import install
from bench.store.layout import claim
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.tidy import tidy_table
from bench.store.upkeep import NOT_KEPT, look, tidy
from tasks.errors import UserInputError


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        store: where everything is.
        computed: ids of the cells of this run that are new.
        known: ids of the cells that were done before.
        reused: ids of the cells that were taken over from other runs.
        failed: records of the cells that failed in this run, or before and were not tried again.
    """

    store: RunStore
    computed: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: list[CellRecord] = field(default_factory=list)


def run_matrix(
    matrix: Matrix,
    output: str | Path | None = None,
    progress: Watcher | None = None,
    options: RunOptions | None = None,
) -> Outcome:
    """Computes every cell of a matrix that is not in the output directory yet.

    Args:
        matrix: what to run.
        output: the results directory; the matrix's own if None.
        progress: is told how the run goes on.
        options: which cells, for how long, with what help.

    Raises:
        UserInputError: for a mistake in the matrix, a directory that is not a results directory or
            that another process is writing, a full disk, workers that cannot be had, and a model
            or task that cannot be had if nothing else is left to do (else its cells fail and the
            others go on). What the directory holds stays as it is then.

    The directory is this process's own before anything is loaded.
    """
    progress, options = progress or Watcher(), options or RunOptions()
    install(matrix.plugins)
    with ExitStack() as stack:
        stack.enter_context(threads(options.threads))
        directory = stack.enter_context(claim(results_directory(matrix, output)))
        executor = stack.enter_context(executor_of(matrix, options, directory))
        cells = executor.expand(matrix)
        there, found = look(directory)
        for sentence in tidy(there, found):
            progress.note(sentence)
        executor.contents.update(_contents(found.cells.values()))
        plan = Plan.of(cells, found, options, directory)
        progress.planned(plan.left, len(plan.done), outlook([plan])[1])
        if plan.left:
            executor.check(plan.left)  # a mistake shows before anything is written
        store = RunStore.create(
            directory,
            matrix.model_dump(),
            suite_version=__version__,
            plan=[cell.planned for cell in cells],
        )
        outcome = Outcome(store, known=plan.done, failed=list(plan.kept))
        try:
            for cell in cells:
                if source := plan.elsewhere.get(cell.id):
                    _take_over(cell, source, store)
                    outcome.reused.append(cell.id)
            used = used_rows(found.cells.values())
            missing = [
                replace(cell, rows=used.get(sharing(cell.task.label, cell.settings)))
                for cell in plan.left
            ]
            _compute(missing, executor, outcome, progress)
        finally:
            write_tables(store, matrix.agreement.resamples)
    return outcome


def results_directory(matrix: Matrix, output: str | Path | None) -> Path:
    """Where the results of a matrix are.

    Raises:
        UserInputError: if neither says it.
    """
    directory = output or matrix.output
    if directory is None:
        raise UserInputError("output: say in which directory the results are to be written.")
    return Path(directory)


def executor_of(matrix: Matrix, options: RunOptions, directory: Path) -> Executor:
    """What computes cells: this process, or workers of dask, which keep logs in the directory.

    A time limit needs a process that can be ended, so with one there is a worker at least.
    """
    limited = options.cell_timeout is not None or options.load_timeout is not None
    if options.workers is None and options.scheduler is None and not limited:
        return LocalExecutor()
    from bench.execution.dask_executor import DaskExecutor  # takes a second to import

    return DaskExecutor(matrix, options, directory)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many threads for torch, in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _contents(records: Iterable[CellRecord]) -> dict[str, str]:
    """What the models of finished cells held, by digest."""
    known: dict[str, str] = {}
    for record in records:
        about = record.provenance
        if record.status == "done" and about.get("model_content"):
            known.setdefault(str(about.get("model_digest")), str(about["model_content"]))
    return known


def _take_over(cell: PlannedCell, source: Source, store: RunStore) -> None:
    """Stores another run's cell as this one, with a note of where it comes from."""
    other = source.store.read(source.cell_id)
    provenance = {**other.record.provenance, "reused_from": str(source.store.directory)}
    update = {**identity(cell), "provenance": provenance}
    store.write(other.record.model_copy(update=update), other.tensors)


def _compute(
    cells: list[PlannedCell], executor: Executor, outcome: Outcome, progress: Watcher
) -> None:
    store = outcome.store

    def scores_of(cell_id: str) -> NDArray[Any] | None:
        return store.read(cell_id).tensors["scores"] if store.has(cell_id) else None

    for cell, record, tensors in executor.compute(cells, scores_of, progress):
        record = _stored(store, cell, record, tensors)
        if record.status == "done":
            outcome.computed.append(cell.id)
        else:
            outcome.failed.append(record)
        progress.finished(cell, record)


def _stored(store: RunStore, cell: PlannedCell, record: CellRecord, tensors: Tensors) -> CellRecord:
    """Stores a cell, as a failed one if what it came out as cannot be stored."""
    try:
        store.write(record, tensors)
    except UserInputError:  # the disk, or the run directory
        raise
    except (ValueError, TypeError, SafetensorError) as error:  # names and numbers of a method's
        known = {key: value for key, value in record.provenance.items() if key != "steps"}
        record = failure(cell, error, known)
        store.write(record, {})
    return record


def write_tables(store: RunStore, resamples: int) -> None:
    """Writes the tidy table and the agreement between methods, unless they are up to date.

    One record is in memory at a time, and the scores of one method: however many cells a run has.
    """
    versions = ((name, store.version_of(name)) for name in store.ids())
    content = [NUMBERS_VERSION, resamples, *versions]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if store.tables.made_of() == digest:
        return
    compared: list[CellRecord] = []

    def records() -> Iterator[CellRecord]:
        for record in map(store.record, store.ids()):
            if record.status == "done" and not record.control:
                compared.append(record.model_copy(update=NOT_KEPT))
            yield record

    store.write_frame("results", tidy_table(records()))
    agreement = agreement_table(compared, store.read, resamples=resamples)
    store.write_frame("agreement", agreement, made_of=digest)
