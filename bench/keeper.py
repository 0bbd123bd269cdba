"""What runs on a worker of dask.distributed: a place to compute cells that keeps its model."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from distributed import Worker, WorkerPlugin, get_worker
from numpy.typing import NDArray

from bench import __version__
from bench.cells import NUMBERS_VERSION, PlannedCell, expand
from bench.compute import Tensors
from bench.config import parse
from bench.plugins import install, install_source
from bench.workplace import Workplace
from tasks.errors import UserInputError

NAME = "attribution-bench"
"""Of the plug-in on the worker, and of the topic of its events."""


@dataclass(frozen=True)
class Orders:
    """What the one who started the run tells every worker.

    Attributes:
        matrix: as plain data.
        sources: (path, source) of each of the matrix's plug-in files; no shared disk is needed.
        digests: model name -> digest.
        devices: device setting -> kind of device.
        cell_timeout: seconds that a cell may take.
        threads: of each worker; None leaves torch its default.
        version: of the suite, and of its numbers.
    """

    matrix: Mapping[str, Any]
    sources: Sequence[tuple[str, bytes]]
    digests: Mapping[str, str]
    devices: Mapping[str, str]
    cell_timeout: float | None
    threads: int | None
    version: tuple[str, int] = (__version__, NUMBERS_VERSION)


class Keeper(WorkerPlugin):  # type: ignore[misc]
    """Holds a worker's model from one cell to the next."""

    name = NAME

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.lock: Any = None
        self.cells: dict[str, PlannedCell] = {}
        self.workplace: Workplace | None = None

    def setup(self, worker: Worker) -> None:
        """On the worker: reads the orders.

        Raises:
            UserInputError: if the worker has another version of the suite.
        """
        if self.orders.version != (__version__, NUMBERS_VERSION):
            raise UserInputError(
                f"The worker {worker.address} has attribution-bench {__version__} (numbers "
                f"{NUMBERS_VERSION}), the run was started with {self.orders.version[0]} (numbers "
                f"{self.orders.version[1]}). Install the same version everywhere."
            )
        if self.orders.threads is not None:
            torch.set_num_threads(self.orders.threads)
        add_plugins(self.orders.sources)
        matrix = parse(self.orders.matrix, "the matrix")
        cells = expand(matrix, self.orders.digests.__getitem__, self.orders.devices.__getitem__)
        self.cells = {cell.id: cell for cell in cells}
        self.lock = threading.Lock()  # hooks of two cells must not meet on one model
        self.workplace = Workplace(matrix, self, self.orders.cell_timeout)

    def loading(self, model: str) -> None:
        """Tells the one who started the run."""
        get_worker().log_event(NAME, {"loading": model})

    def starting(self, cell: PlannedCell) -> None:
        """Tells the one who started the run."""
        get_worker().log_event(NAME, {"starting": cell.id, **_place()})

    def compute(
        self, cell_id: str, parent_scores: NDArray[Any] | None, rows: int | None
    ) -> tuple[bytes, Tensors]:
        """Computes a cell; gives its record as JSON, and its tensors."""
        assert self.workplace is not None
        with self.lock:
            torch.set_num_threads(self.orders.threads or torch.get_num_threads())
            cell = replace(self.cells[cell_id], rows=rows)
            record, tensors = self.workplace.compute(cell, parent_scores)
        provenance = {**record.provenance, **_place(), "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": provenance})
        return record.model_dump_json().encode(), tensors


def _place() -> dict[str, Any]:
    return {"worker": get_worker().address, "process": os.getpid()}


def add_plugins(sources: Sequence[tuple[str, bytes]]) -> None:
    """The plug-ins of this machine's packages, and those of files whose source was sent."""
    install()
    for path, source in sources:
        install_source(source, path, f'the file "{path}"')


def compute_on_worker(
    cell_id: str, parent_scores: NDArray[Any] | None, rows: int | None
) -> tuple[bytes, Tensors]:
    """Runs on a worker that has a `Keeper`."""
    keeper: Keeper = get_worker().plugins[NAME]
    return keeper.compute(cell_id, parent_scores, rows)
