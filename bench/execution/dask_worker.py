"""What runs on a dask worker: cells of one or several runs, one cell at a time in a process."""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from distributed.protocol.pickle import loads
from numpy.typing import NDArray

from bench.evaluation.compute import Tensors
from bench.execution.cell_runner import CellRunner, Watcher
from bench.execution.run_spec import RunSpec, UnfitError, unfit
from bench.matrix.cells import PlannedCell
from bench.models.load import model_digest, stated_of
from bench.plugins import install, install_source, uninstall

DEFAULT_THREADS = torch.get_num_threads()
LOGGERS = [logging.getLogger(name) for name in ("bench", "methods")]
SENT_SECONDS = 0.05
"""News are on their way by then, so that a method that keeps the GIL cannot hold them back."""


class WorkerRun(Watcher, logging.Handler):
    """A run on this worker: the model that its cells share, and what it is told of them.

    It is told what is logged as a warning, too.
    """

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(logging.WARNING)
        self.spec, self.worker = spec, get_worker()
        self.runner = CellRunner(self)

    def tell(self, what: str, text: str) -> None:
        """Sends an event to the one who started the run."""
        event = {"what": what, "text": text, "worker": self.worker.address}
        self.worker.log_event(self.spec.run, event)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a warning."""
        self.tell("log", f"{record.levelname} {record.name}: {record.getMessage()}")

    def loading(self, model: str) -> None:
        """Says so."""
        self.tell("loading", model)

    def starting(self, cell: PlannedCell) -> None:
        """Says so; from here on the cell's own limit counts."""
        self.tell("starting", cell.id)
        time.sleep(SENT_SECONDS)
        limit(self.spec.options.cell_timeout)


RUNS: dict[str, WorkerRun] = {}
"""The runs that this process had cells of last, by name, the latest at the end."""
KEPT_RUNS = 2
"""So many keep their model here: runs that take turns need not load it again each time."""
installed: WorkerRun | None = None
"""Whose plug-ins are in the tables, which a process has once."""
LOCK = threading.Lock()
"""One run computes at a time: hooks, plug-ins and the number of threads are the process's."""


@contextmanager
def _run(spec: RunSpec) -> Iterator[WorkerRun]:
    """A run with its plug-ins in the tables: those of this machine's packages, and its files.

    Raises:
        UnfitError: if this process has other plug-ins than the run, or one is broken here.
    """
    with LOCK:
        here = RUNS.pop(spec.run, None) or WorkerRun(spec)
        _install(here)
        RUNS[spec.run] = here
        for name in list(RUNS)[:-KEPT_RUNS]:
            RUNS.pop(name).runner.leave()
        for logger in LOGGERS:
            logger.addHandler(here)
        try:
            yield here
        finally:
            for logger in LOGGERS:
                logger.removeHandler(here)


def _install(run: WorkerRun) -> None:
    """Puts a run's plug-ins into the tables, in place of another run's."""
    global installed
    if installed is run:
        return
    installed = None
    uninstall()
    try:
        install()
        for path, source in run.spec.plugins:
            install_source(source, path, f'the file "{path}"')
    except Exception as error:
        raise unfit(error) from error
    run.spec.check_plug_ins()
    installed = run


def leave(spec: RunSpec) -> None:
    """The run is over: gives its model back."""
    with LOCK:
        if spec.run in RUNS:
            RUNS.pop(spec.run).runner.leave()


def prepare(spec: RunSpec) -> list[str]:
    """The kinds of device here, if this worker can take part in a run.

    Raises:
        UnfitError: if it has another suite or other plug-ins, or one is broken here.
    """
    spec.check_suite()
    with _run(spec):
        there = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    return ["cpu", *(kind for kind, available in there.items() if available)]


def digest_here(spec: RunSpec, model: str) -> tuple[str, dict[str, str]]:
    """A model's digest on this worker, and what its entry says."""
    with _run(spec):
        return model_digest(model), stated_of(model)


def compute_here(
    spec: RunSpec, pickled: bytes, contents: Mapping[str, str], parent_scores: NDArray[Any] | None
) -> tuple[bytes, Tensors, bool]:
    """Computes a cell of a run, whose plug-ins have to be there before it is unpickled.

    Args:
        spec: the run.
        pickled: the cell.
        contents: what models have to hold, by digest.
        parent_scores: as `CellRunner.compute` takes them.

    Returns:
        Its record as JSON, its tensors, and whether its model could be had here: another worker
        may have it where this one has not.

    Raises:
        UnfitError: if a plug-in is broken since, or the cell's method or task is not here.
    """
    with _run(spec) as here:
        try:
            cell: PlannedCell = loads(pickled)
        except Exception as error:
            raise UnfitError(f"cannot read a cell: {type(error).__name__}: {error}") from error
        here.tell("taken", cell.id)
        torch.set_num_threads(spec.options.threads or DEFAULT_THREADS)
        if spec.logs is not None:
            _print_to(spec.logs / log_name(str(get_worker().name)))
        limit(spec.options.load_timeout)
        runner = here.runner
        try:
            runner.contents.update(contents)
            record, tensors = runner.compute(cell, parent_scores)
        finally:
            limit(None)
        place = {"worker": get_worker().address, "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": {**record.provenance, **place}})
        missing = runner.problem is not None and runner.choice == cell.model
        return record.model_dump_json().encode(), tensors, not missing


def limit(seconds: float | None) -> None:
    """Ends this process after so many seconds, with its stacks, unless it is set anew.

    That works in the middle of a call that never returns, and while the GIL is held.
    """
    faulthandler.cancel_dump_traceback_later()
    if seconds is not None:
        faulthandler.dump_traceback_later(min(seconds, threading.TIMEOUT_MAX), exit=True, file=2)


def log_name(worker: str) -> str:
    """What the log of a worker is called; dask calls one without a name by its address."""
    return f"{re.sub(r'[^A-Za-z0-9._]+', '-', worker).strip('-.') or 'worker'}.log"


def _print_to(file: Path) -> None:
    """What this process prints goes to a file from here on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
