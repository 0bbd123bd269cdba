"""What runs on a dask worker: cells of one or several runs, one cell at a time in a process."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from distributed import get_worker
from distributed.protocol.pickle import loads
from numpy.typing import NDArray

from bench.evaluation.compute import Tensors
from bench.execution.cell_runner import CellRunner, Watcher
from bench.execution.run_spec import RunSpec, UnfitError
from bench.matrix.cells import PlannedCell
from bench.models.load import model_digest, stated_of
from bench.plugins import install, install_source, uninstall
from tasks.errors import UserInputError

DEFAULT_THREADS = torch.get_num_threads()
SILENT_SECONDS = 3600.0
"""A run that asks for nothing for so long is taken for dead when the next one comes."""
SENT_SECONDS = 0.05
"""News are on their way by then, so that a method that keeps the GIL cannot hold them back."""


class UnknownRunError(UserInputError):
    """The worker does not know the run: its process is a new one."""


class WorkerRun(Watcher):
    """One run on this worker: its plug-ins, and the model that its cells share."""

    installed: ClassVar[WorkerRun | None] = None
    """Whose plug-ins are in the tables, which a process has once."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.asked = time.monotonic()
        self.install()
        spec.check_plug_ins()
        self.runner = CellRunner(spec.matrix, self)

    def install(self) -> None:
        """Puts the plug-ins of this machine's packages, and of the run's files, into the tables."""
        if WorkerRun.installed is self:
            return
        WorkerRun.installed = None
        uninstall()
        install()
        for path, source in self.spec.plugins:
            install_source(source, path, f'the file "{path}"')
        WorkerRun.installed = self

    def loading(self, model: str) -> None:
        """Tells the one who started the run."""
        self.tell("loading", model)

    def starting(self, cell: PlannedCell) -> None:
        """Tells the one who started the run; from here on the cell's own limit counts."""
        self.tell("starting", cell.id)
        time.sleep(SENT_SECONDS)
        self.limit(self.spec.cell_timeout)

    def tell(self, what: str, text: str) -> None:
        """Sends an event to the one who started the run."""
        event = {"what": what, "text": text, "worker": get_worker().address}
        get_worker().log_event(self.spec.run, event)

    def limit(self, seconds: float | None) -> None:
        """Ends this process after so many seconds, with its stacks, unless it is set anew.

        That works in the middle of a call that never returns, and while the GIL is held.
        """
        faulthandler.cancel_dump_traceback_later()
        if seconds is not None:
            faulthandler.dump_traceback_later(
                min(seconds, threading.TIMEOUT_MAX), exit=True, file=2
            )

    @contextmanager
    def printing(self) -> Iterator[None]:
        """What is printed goes to a file of this machine; from elsewhere warnings are sent."""
        if self.spec.logs is not None:
            self.spec.logs.mkdir(parents=True, exist_ok=True)
            file = self.spec.logs / f"{get_worker().name}.log"
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(descriptor, stream)
            os.close(descriptor)
            yield
            return
        handler, loggers = (
            _Forward(self),
            [logging.getLogger(name) for name in ("bench", "methods")],
        )
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


RUNS: dict[str, WorkerRun] = {}
"""The runs that this process has prepared, by name."""
LOCK = threading.Lock()
"""One run computes at a time: hooks, plug-ins and the number of threads are the process's."""


@contextmanager
def _prepared(run: str) -> Iterator[WorkerRun]:
    """A run, with its own plug-ins in the tables, for as long as the block takes.

    Raises:
        UnknownRunError: if it was not prepared in this process.
        UnfitError: if a plug-in is broken since.
    """
    with LOCK:
        if run not in RUNS:
            raise UnknownRunError(f"{get_worker().address} does not know the run {run}")
        here = RUNS[run]
        try:
            here.install()
        except Exception as error:
            raise UnfitError(f"cannot take part: {type(error).__name__}: {error}") from error
        yield here
        here.asked = time.monotonic()


def prepare(spec: RunSpec) -> list[str]:
    """Takes a run in; gives the kinds of device here.

    Raises:
        UnfitError: if the worker has another suite or other plug-ins.
        Exception: if a plug-in or the matrix is broken here.
    """
    spec.check_suite()
    with LOCK:
        now = time.monotonic()
        for silent in [name for name, run in RUNS.items() if now - run.asked > SILENT_SECONDS]:
            del RUNS[silent]
        RUNS[spec.run] = WorkerRun(spec)
    there = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    return ["cpu", *(kind for kind, available in there.items() if available)]


def digest_here(run: str, model: str) -> tuple[str, dict[str, str]]:
    """A model's digest on this worker, and what its entry says."""
    with _prepared(run):
        return model_digest(model), stated_of(model)


def compute_here(
    run: str, pickled: bytes, contents: Mapping[str, str], parent_scores: NDArray[Any] | None
) -> tuple[bytes, Tensors, bool]:
    """Computes a cell of a prepared run, whose plug-ins have to be there before it is unpickled.

    Args:
        run: its name.
        pickled: the cell.
        contents: what models have to hold, by digest.
        parent_scores: as `CellRunner.compute` takes them.

    Returns:
        Its record as JSON, its tensors, and whether its model could be had here: another worker
        may have it where this one has not.

    Raises:
        UnknownRunError: if the run was not prepared in this process.
        UnfitError: if a plug-in is broken since, or the cell's method or task is not here.
    """
    with _prepared(run) as here:
        try:
            cell: PlannedCell = loads(pickled)
        except Exception as error:
            raise UnfitError(f"cannot read a cell: {type(error).__name__}: {error}") from error
        here.tell("taken", cell.id)
        torch.set_num_threads(here.spec.threads or DEFAULT_THREADS)
        here.limit(here.spec.load_timeout)
        runner = here.runner
        try:
            with here.printing():
                runner.contents.update(contents)
                record, tensors = runner.compute(cell, parent_scores)
        finally:
            faulthandler.cancel_dump_traceback_later()
        place = {"worker": get_worker().address, "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": {**record.provenance, **place}})
        missing = runner.problem is not None and runner.choice == cell.model
        return record.model_dump_json().encode(), tensors, not missing


def leave(run: str) -> None:
    """The run is over: gives its model back."""
    with LOCK:
        if run in RUNS:
            RUNS.pop(run).runner.leave()
