"""What runs on a dask worker: cells of one or several runs, one cell at a time in a process."""

from __future__ import annotations

import faulthandler
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from numpy.typing import NDArray

from bench.evaluation.compute import Tensors
from bench.execution.cell_runner import CellRunner
from bench.execution.run_spec import Identities, RunSpec, UnfitError, preparing
from bench.execution.suite_files import (
    with_task_files,
)
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.yaml_file import parse
from bench.models.load import model_digest, stated_of
from bench.plugins import install, install_source, uninstall
from tasks.errors import UserInputError

DEFAULT_THREADS = torch.get_num_threads()
SILENT_SECONDS = 3600.0
"""A run that asks for nothing for so long is taken for dead when the next one comes."""
LOADING, COMPUTING = "loading", "computing"
"""First lines of the file that a process over a time limit writes its stack to."""


class UnknownRunError(UserInputError):
    """The worker does not know the run: its process is a new one."""


class WorkerRun:
    """One run on this worker: its matrix and plug-ins, and the model that its cells share."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.folder = Path(get_worker().local_directory) / spec.run
        self.asked = time.monotonic()
        self.cells: dict[str, PlannedCell] = {}
        self.install()
        spec.check_plug_ins()
        matrix = with_task_files(spec.matrix, spec.files, self.folder)
        self.matrix = parse(matrix, "the matrix")
        self.runner = CellRunner(self.matrix, self)

    def install(self) -> None:
        """Puts the plug-ins of this machine's packages, and of the run's files, into the tables."""
        uninstall()
        install()
        for path, source in self.spec.plugins:
            install_source(source, path, f'the file "{path}"')

    def loading(self, model: str) -> None:
        """Tells the one who started the run."""
        self.tell("loading", model)

    def starting(self, cell: PlannedCell) -> None:
        """Tells the one who started the run; from here on the cell's own limit counts."""
        self.tell("starting", cell.id)
        self.limit(COMPUTING, self.spec.cell_timeout)

    def tell(self, what: str, text: str) -> None:
        """Sends an event to the one who started the run."""
        event = {"what": what, "text": text, "worker": get_worker().address}
        get_worker().log_event(self.spec.run, event)

    def limit(self, what: str, seconds: float | None) -> None:
        """Ends this process after so many seconds, its stack in a file, unless it is set anew.

        That works in the middle of a call that never returns, and while the GIL is held. A worker
        that is a thread of the process that started the run is left without a limit.
        """
        faulthandler.cancel_dump_traceback_later()
        if seconds is None or self.spec.client == (socket.gethostname(), os.getpid()):
            return
        file = RUNS.stack_file()
        file.seek(0)
        file.truncate()
        file.write(f"{what}\n")
        file.flush()
        faulthandler.dump_traceback_later(min(seconds, threading.TIMEOUT_MAX), exit=True, file=file)

    def compute(
        self,
        cell_id: str,
        identities: Identities,
        parent_scores: NDArray[Any] | None,
        rows: int | None,
        log: str | None,
    ) -> tuple[bytes, Tensors, bool]:
        """Computes a cell.

        Returns:
            Its record as JSON, its tensors, and whether its model could be had here: another
            worker may have it where this one has not.

        Raises:
            UnfitError: if the worker cannot compute cells of this run.
        """
        self.tell("taken", cell_id)
        torch.set_num_threads(self.spec.threads or DEFAULT_THREADS)
        self.limit(LOADING, self.spec.load_timeout)
        try:
            with _printing_to(log, self):
                cell = replace(self._cell(cell_id, identities), rows=rows)
                self.runner.contents.update(identities.contents)
                record, tensors = self.runner.compute(cell, parent_scores)
        finally:
            faulthandler.cancel_dump_traceback_later()
        here = {"worker": get_worker().address, "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": {**record.provenance, **here}})
        missing = self.runner.problem is not None and self.runner.choice == cell.model
        return record.model_dump_json().encode(), tensors, not missing

    def _cell(self, cell_id: str, identities: Identities) -> PlannedCell:
        """The cell as this machine has it, on the kind of device that its identity says.

        Raises:
            UnfitError: if it is another one here.
        """
        if not self.cells:
            with preparing():
                cells = expand(
                    self.matrix,
                    identities.digests.__getitem__,
                    identities.devices.__getitem__,
                    identities.stated.__getitem__,
                )
            self.cells = {cell.id: cell for cell in cells}
        if cell_id not in self.cells:
            raise UnfitError(
                f"does not know the cell {cell_id}: the data of its task, or what its plug-ins "
                "stand on, is another one there. Install the same everywhere."
            )
        cell = self.cells[cell_id]
        if cell.model.device != "auto":
            return cell
        kind = cell.settings["model"]["device"]
        return replace(cell, model=cell.model.model_copy(update={"device": kind}))

    def close(self) -> None:
        """Gives the model back, and the files."""
        self.runner.leave()
        shutil.rmtree(self.folder, ignore_errors=True)


class Runs:
    """The runs on this worker; the lock lets one at a time compute, since hooks must not meet."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: dict[str, WorkerRun] = {}
        self.installed: WorkerRun | None = None
        self.stacks: Any = None

    def stack_file(self) -> Any:
        """The file where this process leaves its stack when it crashes or is over a limit."""
        if self.stacks is None:
            # Not in the worker's own directory, which goes when the worker goes.
            folder = Path(get_worker().local_directory).parent
            self.stacks = tempfile.NamedTemporaryFile(  # noqa: SIM115
                "w", dir=folder, prefix="attribution-bench-", suffix=".stack"
            )
            faulthandler.enable(self.stacks)
        return self.stacks

    @contextmanager
    def run(self, name: str) -> Iterator[WorkerRun]:
        """A run, with its own plug-ins in the tables, for as long as the block takes.

        Raises:
            UnknownRunError: if it was not prepared here.
            UnfitError: if a plug-in is broken since.
        """
        with self.lock:
            if name not in self.runs:
                raise UnknownRunError(f"{get_worker().address} does not know the run {name}")
            run = self.runs[name]
            if self.installed is not run:
                with preparing():
                    run.install()
                self.installed = run
            run.asked = time.monotonic()
            yield run
            run.asked = time.monotonic()

    def add(self, spec: RunSpec) -> None:
        """Prepares a run; those that are silent for long leave."""
        with self.lock:
            now = time.monotonic()
            for name in [n for n, run in self.runs.items() if now - run.asked > SILENT_SECONDS]:
                self._remove(name)
            self._remove(spec.run)
            self.installed = None
            try:
                self.installed = self.runs[spec.run] = WorkerRun(spec)
            except BaseException:
                uninstall()
                raise

    def remove(self, name: str) -> None:
        """The run is over."""
        with self.lock:
            self._remove(name)

    def _remove(self, name: str) -> None:
        if name in self.runs:
            run = self.runs.pop(name)
            run.close()
            if self.installed is run:
                uninstall()
                self.installed = None


RUNS = Runs()
"""The process's own, as its GPU and its number of threads are."""


def prepare(spec: RunSpec) -> tuple[list[str], str]:
    """Takes a run in; gives the kinds of device here, the best one last, and the stack's file.

    Raises:
        UnfitError: if the worker has another suite or other plug-ins, or one is broken here.
    """
    with preparing():
        spec.check_suite()
        RUNS.add(spec)
    there = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    kinds = ["cpu", *(kind for kind, available in there.items() if available)]
    return kinds, str(RUNS.stack_file().name)


def digest_here(run: str, model: str) -> tuple[str, dict[str, str]]:
    """A model's digest on this worker, and what its entry says."""
    with RUNS.run(run):
        return model_digest(model), stated_of(model)


def compute_here(run: str, *arguments: Any) -> tuple[bytes, Tensors, bool]:
    """Computes a cell of a prepared run: `WorkerRun.compute`."""
    with RUNS.run(run) as here:
        return here.compute(*arguments)


def leave(run: str) -> None:
    """The run is over."""
    RUNS.remove(run)


@contextmanager
def _printing_to(log: str | None, run: WorkerRun) -> Iterator[None]:
    """Keeps what is printed in a file of this machine; a worker elsewhere sends its warnings."""
    if log is not None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        os.close(descriptor)
        yield
        return
    handler = _Forward(run)
    loggers = [logging.getLogger(name) for name in ("bench", "methods")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Forward(logging.Handler):
    """Sends log records as events."""

    def __init__(self, run: WorkerRun) -> None:
        super().__init__(logging.WARNING)
        self.run = run

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record."""
        self.run.tell("log", f"{record.levelname} {record.name}: {record.getMessage()}")
