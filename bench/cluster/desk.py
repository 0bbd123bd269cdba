"""What runs on a worker of dask.distributed.

A run hires the workers it finds, under a name of its own, and dismisses them at its end. Several
runs may have the same worker: its process computes one cell at a time, whoever's it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker
from numpy.typing import NDArray

from bench.cluster.keeper import Keeper
from bench.cluster.orders import Identities, NotHiredError, Orders, preparing
from bench.evaluation.compute import Tensors
from bench.models.load import model_digest, stated_of
from bench.plugins import uninstall

IDLE_SECONDS = 3600.0
"""A run that asks for nothing for so long is taken for dead when the next one comes."""


class Desk:
    """This process's keepers, of which one at a time computes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # hooks of two cells must not meet on one model
        self.keepers: dict[tuple[str, str], Keeper] = {}
        self.last: Keeper | None = None

    @contextmanager
    def keeper(self, run: str) -> Iterator[Keeper]:
        """The run's keeper on this worker, with its own plug-ins in the tables of names.

        Raises:
            NotHiredError: if there is none.
            UnfitError: if a plug-in is broken since.
        """
        with self.lock:
            keeper = self.keepers.get((get_worker().id, run))
            if keeper is None:
                raise NotHiredError(f"{get_worker().address} does not know the run {run}")
            if self.last is not keeper:
                with preparing():
                    keeper.install_plugins()
                self.last = keeper
            keeper.asked = time.monotonic()
            yield keeper
            keeper.asked = time.monotonic()

    def add(self, orders: Orders) -> None:
        """Makes a run's keeper; those of runs that are silent for long leave.

        Raises:
            UserInputError: if a plug-in cannot be had here, or is another one.
        """
        worker = get_worker()
        with self.lock:
            for key, keeper in list(self.keepers.items()):
                if time.monotonic() - keeper.asked > IDLE_SECONDS:
                    self._remove(key)
            folder = Path(worker.local_directory) / f"attribution-bench-{orders.run}"
            self._remove((worker.id, orders.run))
            new = Keeper(orders, folder)
            self.last = None
            try:
                new.install_plugins()
                orders.check_plug_ins()
            except BaseException:
                uninstall()
                new.leave()
                raise
            self.last = self.keepers[worker.id, orders.run] = new

    def remove(self, run: str) -> None:
        """The run is over."""
        with self.lock:
            self._remove((get_worker().id, run))

    def _remove(self, key: tuple[str, str]) -> None:
        if key in self.keepers:
            keeper = self.keepers.pop(key)
            keeper.leave()
            if self.last is keeper:
                uninstall()
                self.last = None


DESK = Desk()
"""The process's own, as its GPU and its number of threads are."""


def hire(orders: Orders) -> list[str]:
    """Runs on a worker: takes orders, and gives the kinds of device that it can compute on.

    Raises:
        UnfitError: if the worker has another suite or other plug-ins, or one is broken here.
    """
    with preparing():
        orders.check_suite()
        DESK.add(orders)
    return kinds_here()


def kinds_here() -> list[str]:
    """The kinds of device that this process can compute on, the best one last."""
    there = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    return ["cpu", *(kind for kind, available in there.items() if available)]


def model_at_worker(run: str, model: str) -> tuple[str, dict[str, str]]:
    """Runs on a worker: a model's digest there, and what its entry says."""
    with DESK.keeper(run):
        return model_digest(model), stated_of(model)


def compute_at_worker(
    run: str,
    cell_id: str,
    identities: Identities,
    parent_scores: NDArray[Any] | None,
    rows: int | None,
) -> tuple[bytes, Tensors, bool]:
    """Runs on a worker that was hired: `Keeper.compute`."""
    with DESK.keeper(run) as keeper:
        return keeper.compute(cell_id, identities, parent_scores, rows)


def dismiss(run: str) -> None:
    """Runs on a worker: the run is over."""
    DESK.remove(run)
