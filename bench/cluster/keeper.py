"""What a worker of dask.distributed has of a run: its orders, and a place that keeps its model."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from numpy.typing import NDArray

from bench import __version__
from bench.cluster.task_files import unpacked
from bench.evaluation.compute import Tensors
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.identity import NUMBERS_VERSION
from bench.matrix.parse import parse
from bench.plugins import install, install_source, uninstall
from bench.running.workplace import Workplace
from tasks.errors import UserInputError

DEFAULT_THREADS = torch.get_num_threads()


class OtherSuiteError(UserInputError):
    """A worker has another version of the suite, other data or other plug-ins."""


@dataclass(frozen=True)
class Orders:
    """What the one who started the run tells every worker once.

    Attributes:
        run: a name that no other run has; of the topic of its events too.
        matrix: as plain data.
        plugins: (path, source) of each of the matrix's plug-in files; no shared disk is needed.
        files: content of the tasks' files, by their paths in the matrix (`task_files`).
        cell_timeout: seconds that a cell may take.
        threads: of each worker; None leaves torch its default.
        far: the worker's output is not seen by the one who started the run.
        load_timeout: seconds that loading a model, or preparing a task, may take.
        version: of the suite, and of its numbers.
    """

    run: str
    matrix: Mapping[str, Any]
    plugins: Sequence[tuple[str, bytes]]
    files: Mapping[str, bytes]
    cell_timeout: float | None
    threads: int | None
    far: bool
    load_timeout: float | None = None
    version: tuple[str, int] = (__version__, NUMBERS_VERSION)


@dataclass(frozen=True)
class Identities:
    """What the matrix's models and devices were when the run was planned.

    Attributes:
        digests: model name -> digest.
        devices: device setting -> kind of device.
        contents: what models have to hold, by digest (`Workplace.contents`).
    """

    digests: dict[str, str] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)


class Keeper:
    """Holds a worker's model, for one run, from one cell to the next."""

    def __init__(self, orders: Orders, folder: Path) -> None:
        self.orders, self.folder = orders, folder
        self.matrix = parse(unpacked(orders.matrix, orders.files, folder), "the matrix")
        self.workplace = Workplace(self.matrix, self, orders.cell_timeout, orders.load_timeout)
        self.known: tuple[Identities, dict[str, PlannedCell]] = (Identities(), {})
        self.asked = time.monotonic()

    def loading(self, model: str) -> None:
        """Tells the one who started the run."""
        self.tell("loading", model)

    def starting(self, cell: PlannedCell) -> None:
        """Tells the one who started the run."""
        self.tell("starting", cell.id)

    def tell(self, what: str, text: str) -> None:
        """An event for the one who started the run."""
        worker = get_worker()
        place = {"worker": worker.address, "process": os.getpid()}
        worker.log_event(self.orders.run, {"what": what, "text": text, **place})

    def install_plugins(self) -> None:
        """The plug-ins of this machine's packages, and those of files whose source was sent."""
        uninstall()
        install()
        for path, source in self.orders.plugins:
            install_source(source, path, f'the file "{path}"')

    def compute(
        self,
        cell_id: str,
        identities: Identities,
        parent_scores: NDArray[Any] | None,
        rows: int | None,
    ) -> tuple[bytes, Tensors]:
        """Computes a cell; gives its record as JSON, and its tensors."""
        self.tell("taken", cell_id)
        torch.set_num_threads(self.orders.threads or DEFAULT_THREADS)
        with self._forwarding():
            cell = replace(self._cell(cell_id, identities), rows=rows)
            self.workplace.contents.update(identities.contents)
            record, tensors = self.workplace.compute(cell, parent_scores)
        here = {"worker": get_worker().address, "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": {**record.provenance, **here}})
        return record.model_dump_json().encode(), tensors

    def _cell(self, cell_id: str, identities: Identities) -> PlannedCell:
        """The cell as this machine has it, on the kind of device that its identity says.

        Raises:
            OtherSuiteError: if it is another one here.
        """
        if self.known[0] != identities:
            cells = expand(
                self.matrix, identities.digests.__getitem__, identities.devices.__getitem__
            )
            self.known = identities, {cell.id: cell for cell in cells}
        if cell_id not in self.known[1]:
            raise OtherSuiteError(
                f"does not know the cell {cell_id}: the data of its task or a package with its "
                "plug-ins is another one there. Install the same everywhere."
            )
        cell = self.known[1][cell_id]
        if cell.model.device != "auto":
            return cell
        kind = cell.settings["model"]["device"]
        return replace(cell, model=cell.model.model_copy(update={"device": kind}))

    @contextmanager
    def _forwarding(self) -> Iterator[None]:
        """Warnings of the suite reach the one who started the run, in the block."""
        handler = _Forward(self)
        loggers = [logging.getLogger(name) for name in ("bench", "methods") if self.orders.far]
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)

    def leave(self) -> None:
        """Gives the model back, and the files."""
        self.workplace.leave()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Forward(logging.Handler):
    """Log records as events."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(logging.WARNING)
        self.keeper = keeper

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record."""
        self.keeper.tell("log", f"{record.levelname} {record.name}: {record.getMessage()}")
