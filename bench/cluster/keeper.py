"""What a worker of dask.distributed has of a run: its orders, and a place that keeps its model."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from numpy.typing import NDArray

from bench.cluster.orders import Identities, Orders, UnfitError, preparing
from bench.cluster.task_files import unpacked
from bench.evaluation.compute import Tensors
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.parse import parse
from bench.plugins import install, install_source, uninstall
from bench.running.workplace import Workplace

DEFAULT_THREADS = torch.get_num_threads()


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
    ) -> tuple[bytes, Tensors, bool]:
        """Computes a cell.

        Returns:
            Its record as JSON, its tensors, and whether its model could be had here: another
            worker may have it where this one has not.

        Raises:
            UnfitError: if the worker cannot compute cells of this run.
        """
        self.tell("taken", cell_id)
        torch.set_num_threads(self.orders.threads or DEFAULT_THREADS)
        with self._forwarding():
            cell = replace(self._cell(cell_id, identities), rows=rows)
            self.workplace.contents.update(identities.contents)
            record, tensors = self.workplace.compute(cell, parent_scores)
        here = {"worker": get_worker().address, "host": socket.gethostname()}
        record = record.model_copy(update={"provenance": {**record.provenance, **here}})
        missing = self.workplace.problem is not None and self.workplace.choice == cell.model
        return record.model_dump_json().encode(), tensors, not missing

    def _cell(self, cell_id: str, identities: Identities) -> PlannedCell:
        """The cell as this machine has it, on the kind of device that its identity says.

        Raises:
            UnfitError: if it is another one here, or there is none.
        """
        if self.known[0] != identities:
            with preparing():
                cells = expand(
                    self.matrix,
                    identities.digests.__getitem__,
                    identities.devices.__getitem__,
                    identities.stated.__getitem__,
                )
            self.known = identities, {cell.id: cell for cell in cells}
        if cell_id not in self.known[1]:
            raise UnfitError(
                f"does not know the cell {cell_id}: the data of its task, or what its plug-ins "
                "stand on, is another one there. Install the same everywhere."
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
