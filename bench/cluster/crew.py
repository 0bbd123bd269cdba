"""Cells computed by workers: processes of this machine, or a dask.distributed cluster.

dask's own wire format is not safe against a hostile scheduler or worker: connect to your own only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import dask
from distributed import Client

from bench.cluster.desk import model_at_worker
from bench.cluster.local_workers import LocalWorkers, shared_gpus
from bench.cluster.orders import Identities, Orders
from bench.cluster.shift import Shift
from bench.cluster.task_files import contents
from bench.cluster.used import plug_ins_of
from bench.cluster.waits import ask, until
from bench.cluster.worker import Worker
from bench.cluster.worker_logs import WorkerLogs
from bench.cluster.workers import ClusterLostError, Workers
from bench.matrix.cells import PlannedCell
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.models.bridge import device_kind
from bench.running.alone import Computed, Crew, CrewWatcher, ScoresOf
from bench.store.layout import LOGS

CONNECT_SECONDS = 10
CLOSE_SECONDS = 10
SETTLED_SECONDS = 60.0
"""Before what `auto` means is decided, all workers that are there are heard, but not for longer."""


class Cluster(Crew):
    """Workers, each with a model of its own; results come back to this process."""

    def __init__(self, matrix: Matrix, options: RunOptions, directory: Path) -> None:
        self.matrix, self.options, self.directory = matrix, options, directory
        self.run = f"attribution-bench-{uuid4().hex}"
        self.identities = Identities()
        self.contents = self.identities.contents
        self.logs = WorkerLogs()
        self.local: LocalWorkers | None = None
        if options.scheduler is None:
            number = options.workers or 1
            self.local = LocalWorkers(number, shared_gpus(matrix), self.logs)
        try:
            self.client = self._connect()
        except BaseException:
            if self.local is not None:
                self.local.close()
            raise

    def _connect(self) -> Client:
        address = self.local.address if self.local else self.options.scheduler
        try:
            return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterLostError(
                f"No dask scheduler answers at {address}: {error}. The address is what "
                '`dask scheduler` prints, such as "tcp://10.0.0.1:8786".'
            ) from error

    @cached_property
    def workers(self) -> Workers:
        """Who is there; made when one of them is first asked: tasks are known to be sound then."""
        matrix = self.matrix.model_dump()
        threads = self.options.threads
        if threads is None and self.options.workers is not None:
            threads = max(1, dask.system.CPU_COUNT // self.options.workers)
        orders = Orders(
            self.run,
            matrix,
            [(path, Path(path).expanduser().read_bytes()) for path in self.matrix.plugins],
            contents(matrix),
            self.options.cell_timeout,
            threads,
            far=self.local is None,
            load_timeout=self.options.load_timeout,
            used=plug_ins_of(matrix),
        )
        return Workers(self.client, orders, self.local, self.logs, self.options.patience)

    def __exit__(self, *exception: object) -> None:
        if "workers" in vars(self):
            self.workers.dismiss()
        with suppress(Exception):  # a scheduler that is gone must not hide why
            self.client.close(timeout=CLOSE_SECONDS)
        if self.local is not None:
            self.local.close()

    def model_digest(self, name: str) -> str:
        """As a worker has it: this machine need not have the model."""
        if name not in self.identities.digests:
            digest, stated = ask(self.workers, model_at_worker, self.run, name)
            self.identities.digests[name], self.identities.stated[name] = digest, stated
        return self.identities.digests[name]

    def stated(self, name: str) -> Mapping[str, str]:
        """As the worker has it that gave the digest."""
        self.model_digest(name)
        return self.identities.stated[name]

    def device(self, setting: str) -> str:
        """The kind of device that a setting means, the same for all cells of the run.

        `auto` is CUDA if a worker that is there has it, and else the CPU; a cell goes only to
        workers with its kind of device.

        Raises:
            NoWorkerError: if no worker with this kind of device comes.
        """
        if setting not in self.identities.devices:
            kind = device_kind(setting)
            decided = time.monotonic() + SETTLED_SECONDS

            def has_it() -> str | None:
                kinds = [worker.kinds for worker in self.workers.able()]
                if kind != "auto":
                    return kind if any(kind in one for one in kinds) else None
                if self.local is not None:
                    return "cuda" if self.local.gpus else "cpu"
                if self.workers.answering and time.monotonic() < decided:
                    return None  # one of them may have a GPU
                return _best(kinds)

            wanted = "is there" if kind == "auto" else f"computes on {kind}"
            self.identities.devices[setting] = until(self.workers, has_it, wanted)
        return self.identities.devices[setting]

    def check(self, cells: Sequence[PlannedCell]) -> None:
        """Waits for a worker that can compute the first cell.

        Raises:
            NoWorkerError: if none comes, or all that are there have another version of the suite.
        """
        kind = cells[0].settings["model"]["device"]

        def able() -> Worker | None:
            return next((w for w in self.workers.able() if kind in w.kinds), None)

        until(self.workers, able, f"computes on {kind}")

    def compute(
        self, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: CrewWatcher
    ) -> Iterator[Computed]:
        """As results come in; a lost worker's cells go to another one."""
        self.logs.keep_in(self.directory / LOGS)
        return Shift(self.workers, self.identities, cells, scores_of, watcher).cells()


def _best(kinds: Sequence[frozenset[str]]) -> str | None:
    """What `auto` means: CUDA before the CPU; None if nobody is there."""
    there = frozenset().union(*kinds)
    return next((kind for kind in ("cuda", "cpu") if kind in there), None)
