"""How a matrix is run: which cells, for how long, with what help. None of it decides a number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import UserInputError

LOAD_TIMEOUT = 3600.0
"""Seconds on a worker: of a network disk that does not answer, not of a large model."""


@dataclass(frozen=True)
class RunOptions:
    """What `python -m bench run` takes beside the matrix.

    Attributes:
        only: `key=value` each; the cells of these alone (`bench.execution.plan.select`).
        retry_failed: compute cells again that failed before.
        cell_timeout: seconds that a cell may take, once its model and task are there. A limit makes
            a run without workers use one, since only a process of its own can be ended.
        load_timeout: seconds that loading a model, or preparing a task for it, may take; None is
            `LOAD_TIMEOUT` on workers, and no limit in this process.
        reuse: runs whose finished cells are taken over.
        workers: processes on this machine; None computes in this one.
        scheduler: address of a dask.distributed scheduler whose workers compute.
        patience: seconds to wait while no worker is there that could compute what is left.
        threads: threads of a process; None leaves torch its default (workers share the cores).
    """

    only: tuple[str, ...] = ()
    retry_failed: bool = True
    cell_timeout: float | None = None
    load_timeout: float | None = None
    reuse: tuple[Path, ...] = ()
    workers: int | None = None
    scheduler: str | None = None
    patience: float = 600.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise UserInputError(
                "--workers starts processes here, --scheduler takes those of a cluster: give one."
            )
        for name in ("cell_timeout", "load_timeout", "workers", "patience", "threads"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserInputError(
                    f"--{name.replace('_', '-')} is {value:g}; it has to be greater than 0."
                )
