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
from pathlib import Path
from typing import Any, ClassVar

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
SILENT_SECONDS = 3600.0
"""A run that asks for nothing for so long is taken for dead when the next one comes."""
SENT_SECONDS = 0.05
"""News are on their way by then, so that a method that keeps the GIL cannot hold them back."""


class WorkerRun(Watcher):
    """One run on this worker: its plug-ins, and the model that its cells share."""

    installed: ClassVar[WorkerRun | None] = None
    """Whose plug-ins are in the tables, which a process has once."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.runner = CellRunner(self)
        self.asked = time.monotonic()

    def install(self) -> None:
        """Puts the plug-ins of this machine's packages, and of the run's files, into the tables.

        Raises:
            UnfitError: if they are not those of the run.
            Exception: if one is broken here.
        """
        if WorkerRun.installed is self:
            return
        WorkerRun.installed = None
        uninstall()
        install()
        for path, source in self.spec.plugins:
            install_source(source, path, f'the file "{path}"')
        self.spec.check_plug_ins()
        WorkerRun.installed = self

    def loading(self, model: str) -> None:
        """Tells the one who started the run."""
        self.tell("loading", model)

    def starting(self, cell: PlannedCell) -> None:
        """Tells the one who started the run; from here on the cell's own limit counts."""
        self.tell("starting", cell.id)
        time.sleep(SENT_SECONDS)
        limit(self.spec.options.cell_timeout)

    def tell(self, what: str, text: str) -> None:
        """Sends an event to the one who started the run."""
        event = {"what": what, "text": text, "worker": get_worker().address}
        get_worker().log_event(self.spec.run, event)

    @contextmanager
    def warning(self) -> Iterator[None]:
        """Sends what is logged as a warning to a run that does not keep this worker's messages."""
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.tell(  # type: ignore[method-assign]
            "log", f"{record.levelname} {record.name}: {record.getMessage()}"
        )
        loggers = [logging.getLogger(name) for name in ("bench", "methods") if not self.spec.logs]
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)


def _print_to(file: Path) -> None:
    """What this process prints goes to a file from here on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def limit(seconds: float | None) -> None:
    """Ends this process after so many seconds, with its stacks, unless it is set anew.

    That works in the middle of a call that never returns, and while the GIL is held.
    """
    faulthandler.cancel_dump_traceback_later()
    if seconds is not None:
        faulthandler.dump_traceback_later(min(seconds, threading.TIMEOUT_MAX), exit=True, file=2)


RUNS: dict[str, WorkerRun] = {}
"""The runs that this process has had cells of, by name."""
LOCK = threading.Lock()
"""One run computes at a time: hooks, plug-ins and the number of threads are the process's."""


@contextmanager
def _run(spec: RunSpec) -> Iterator[WorkerRun]:
    """A run, with its own plug-ins in the tables, for as long as the block takes.

    Raises:
        UnfitError: if this process has other plug-ins than the run, or one is broken here.
    """
    with LOCK:
        now = time.monotonic()
        for silent in [name for name, run in RUNS.items() if now - run.asked > SILENT_SECONDS]:
            RUNS.pop(silent).runner.leave()
        here = RUNS[spec.run] if spec.run in RUNS else WorkerRun(spec)
        try:
            here.install()
        except UnfitError:
            raise
        except Exception as error:
            raise unfit(error) from error
        RUNS[spec.run] = here
        yield here
        here.asked = time.monotonic()


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
            _print_to(spec.logs / f"{get_worker().name}.log")
        limit(spec.options.load_timeout)
        runner = here.runner
        try:
            with here.warning():
                runner.contents.update(contents)
                record, tensors = runner.compute(cell, parent_scores)
        finally:
            limit(None)
        place = {"worker": get_worker().address, "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": {**record.provenance, **place}})
        missing = runner.problem is not None and runner.choice == cell.model
        return record.model_dump_json().encode(), tensors, not missing


def leave(spec: RunSpec) -> None:
    """The run is over: gives its model back."""
    with LOCK:
        if spec.run in RUNS:
            RUNS.pop(spec.run).runner.leave()
