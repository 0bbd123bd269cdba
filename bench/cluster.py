"""Cells computed by workers: processes of this machine, or a dask.distributed cluster.

dask's own wire format is not safe against a hostile scheduler or worker: connect to your own only.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, SpecCluster

from bench.alone import Computed, Crew, ScoresOf
from bench.bridge import resolve_device
from bench.cells import PlannedCell
from bench.config import Matrix
from bench.keeper import NAME, Keeper, Orders, add_plugins, compute_on_worker
from bench.limits import CellTimeoutError
from bench.models import model_digest
from bench.options import RunOptions
from bench.provenance import machine
from bench.records import CellRecord
from bench.workplace import Watcher, failure
from tasks.errors import UserInputError

LOST_WORKERS = 3
"""A cell that so many workers died with is not tried again."""
PATIENCE_SECONDS = 60
"""How long to wait for the first worker of a cluster."""
GRACE = 1.5
"""A worker that is so many times over the limit of a cell does not answer, and is ended."""
GRACE_SECONDS = 5.0


class WorkerDiedError(RuntimeError):
    """The process that computed a cell died."""


class ClusterLostError(UserInputError):
    """The scheduler cannot be reached, or not any more."""


class Cluster(Crew):
    """Workers, each with a model of its own; results come back to this process."""

    def __init__(self, matrix: Matrix, options: RunOptions) -> None:
        self.matrix, self.options = matrix, options
        self.sources = [(path, Path(path).expanduser().read_bytes()) for path in matrix.plugins]
        self.digests: dict[str, str] = {}
        self.devices: dict[str, str] = {}
        self.processes: SpecCluster | None = None
        self.client: Client = self._connect()
        self.client.run(add_plugins, self.sources)
        self.gpus = any(worker["resources"].get("GPU") for worker in self.workers().values())

    def _connect(self) -> Client:
        address = self.options.scheduler
        if address is None:
            self.processes = local_processes(self.matrix, self.options)
            return Client(self.processes)
        try:
            client = Client(address, timeout=10)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterLostError(
                f"No dask scheduler answers at {address}: {error}. The address is what "
                '`dask scheduler` prints, such as "tcp://10.0.0.1:8786".'
            ) from error
        try:
            client.wait_for_workers(1, timeout=PATIENCE_SECONDS)
        except TimeoutError:
            client.close()
            raise ClusterLostError(
                f"The scheduler at {address} has no worker, and none came in {PATIENCE_SECONDS} s."
            ) from None
        return client

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that are there now, by address."""
        found: dict[str, dict[str, Any]] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found

    def __exit__(self, *exception: object) -> None:
        self.client.close()
        if self.processes is not None:
            self.processes.close()

    def model_digest(self, name: str) -> str:
        """As a worker has it: this machine need not have the model."""
        if name not in self.digests:
            self.digests[name] = self._ask(model_digest, name)
        return self.digests[name]

    def device(self, setting: str) -> str:
        """As the workers have it; all have to have the same."""
        if setting not in self.devices:
            kinds = set(self.client.run(_device_kind, setting).values())
            if len(kinds) > 1:
                raise UserInputError(
                    f'device "{setting}" means {" and ".join(sorted(kinds))} on different workers, '
                    "which give different numbers. Say which in the matrix."
                )
            self.devices[setting] = kinds.pop()
        return self.devices[setting]

    def _ask(self, function: Callable[[str], str], argument: str) -> str:
        answer: str = self.client.submit(function, argument, pure=False).result()
        return answer

    def end(self, worker: str, process: int) -> None:
        """Has a worker that does not answer started anew."""
        if self.processes is not None:  # they are of this machine, and started by us
            os.kill(process, signal.SIGKILL)
            return
        # A worker without a nanny stays as it is; its cell is given up in any case.
        with suppress(KeyError, OSError, TimeoutError, ValueError):
            self.client.restart_workers([worker], timeout=30, raise_for_error=False)

    def check(self, cells: Sequence[PlannedCell]) -> None:
        """Tells the workers what to do: a worker with another version shows here."""
        threads = self.options.threads
        if threads is None and self.options.workers is not None:
            threads = max(1, dask.system.CPU_COUNT // self.options.workers)
        orders = Orders(
            self.matrix.model_dump(),
            self.sources,
            self.digests,
            self.devices,
            self.options.cell_timeout,
            threads,
        )
        self.client.register_plugin(Keeper(orders))

    def compute(
        self, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: Watcher
    ) -> Iterator[Computed]:
        """As results come in; a lost worker's cells go to another one."""
        return _Shift(self, cells, scores_of, watcher).run()


def _device_kind(setting: str) -> str:
    return resolve_device(setting).partition(":")[0]


@dataclass(frozen=True)
class _Place:
    """Where a cell is being computed, and since when by the clock here."""

    worker: str
    process: int
    start: float


class _Shift:
    """The cells that are out at the workers, and what comes back."""

    def __init__(
        self, crew: Cluster, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: Watcher
    ) -> None:
        self.crew, self.client, self.scores_of, self.watcher = (
            crew, crew.client, scores_of, watcher
        )  # fmt: skip
        self.cells = {cell.id: cell for cell in cells}
        self.rank = {cell.id: place for place, cell in enumerate(cells)}
        self.ready: list[PlannedCell] = []
        self.out: dict[str, Future] = {}
        self.running: dict[str, _Place] = {}
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self) -> Iterator[Computed]:
        """See `Crew.compute`."""
        self.client.subscribe_topic(NAME, lambda event: self.news.put(event[1]))
        try:
            self.ready = [cell for cell in self.cells.values() if cell.parent not in self.cells]
            while self.ready or self.out:
                self._fill()
                yield from self._next()
        finally:
            self.client.unsubscribe_topic(NAME)
            self.client.cancel(list(self.out.values()), force=True)

    def _fill(self) -> None:
        """One cell a worker is out, in the order of the matrix, so that models change seldom.

        dask blames a worker's death on all that wait for it: nothing waits.
        """
        self.ready.sort(key=lambda cell: self.rank[cell.id], reverse=True)
        while self.ready and len(self.out) < max(1, len(self.crew.workers())):
            self._submit(self.ready.pop())

    def _submit(self, cell: PlannedCell) -> None:
        scores = None if cell.parent is None else self.scores_of(cell.parent)
        on_gpu = cell.settings["model"]["device"] == "cuda" and self.crew.gpus
        future = self.client.submit(
            compute_on_worker,
            cell.id,
            scores,
            cell.rows,
            key=f"{cell.id}/{time.time_ns()}",
            resources={"GPU": 1} if on_gpu else None,
            pure=False,
        )
        self.out[cell.id] = future
        future.add_done_callback(lambda done, cell_id=cell.id: self.news.put((cell_id, done)))

    def _next(self) -> Iterator[Computed]:
        """What the next piece of news leads to."""
        try:
            news = self.news.get(timeout=0.5)
        except queue.Empty:
            yield from self._overdue()
            if self.client.status not in ("running", "connecting"):
                raise ClusterLostError(_LOST) from None
            return
        if isinstance(news, dict):
            self._note(news)
            return
        cell_id, future = news
        if self.out.get(cell_id) is future:
            yield from self._done(self.cells[cell_id], *self._result(cell_id, future))

    def _note(self, event: dict[str, Any]) -> None:
        if "loading" in event:
            self.watcher.loading(event["loading"])
        elif event["starting"] in self.out:
            place = _Place(event["worker"], event["process"], time.monotonic())
            self.running[event["starting"]] = place
            self.watcher.starting(self.cells[event["starting"]])

    def _result(self, cell_id: str, future: Future) -> tuple[CellRecord, dict[str, Any]]:
        """What came back, or why nothing did."""
        try:
            text, tensors = future.result()
            return CellRecord.model_validate_json(text), tensors
        except CancelledError:
            raise ClusterLostError(_LOST) from None
        except KilledWorker as error:
            died = WorkerDiedError(
                f"the worker died while it computed this cell, and so did the next ones: it ran "
                f"out of memory, or was killed ({error})"
            )
            return failure(self.cells[cell_id], died, machine()), {}
        except Exception as error:
            return failure(self.cells[cell_id], error, machine()), {}

    def _done(
        self, cell: PlannedCell, record: CellRecord, tensors: dict[str, Any]
    ) -> Iterator[Computed]:
        del self.out[cell.id]
        self.running.pop(cell.id, None)
        yield cell, record, tensors
        self.ready += [child for child in self.cells.values() if child.parent == cell.id]

    def _overdue(self) -> Iterator[Computed]:
        """Ends workers that do not come back from a cell, with the cell."""
        limit = self.crew.options.cell_timeout
        if limit is None:
            return
        hard = GRACE * limit + GRACE_SECONDS
        late = {
            cell_id: place
            for cell_id, place in self.running.items()
            if time.monotonic() - place.start > hard
        }
        there = self.crew.workers() if late else {}
        for cell_id, place in late.items():
            # If it died, the cell waits for another worker; it is looked at again in any case.
            self.running[cell_id] = replace(place, start=time.monotonic())
            if place.worker in there:
                self.out[cell_id].cancel(force=True)
                self.crew.end(place.worker, place.process)
                error = CellTimeoutError(
                    f"took longer than the limit of {limit:g} s and did not stop; its worker was "
                    "started anew. Give more with --cell-timeout"
                )
                yield from self._done(
                    self.cells[cell_id], failure(self.cells[cell_id], error, machine()), {}
                )


_LOST = (
    "The connection to the dask scheduler is lost. Finished cells are stored; the same command "
    "goes on."
)


def local_processes(matrix: Matrix, options: RunOptions) -> SpecCluster:
    """So many worker processes of this machine, each with a GPU of its own as far as there are any.

    They listen on this machine's own address only.
    """
    gpus = _visible_gpus(matrix)
    specifications = {}
    for number in range(options.workers or 1):
        environment = {"TOKENIZERS_PARALLELISM": "false"}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        specifications[number] = {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": None,
                "env": environment,
                "resources": {"GPU": 1} if gpus else {},
                "host": "127.0.0.1",
                "dashboard": False,
            },
        }
    with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS - 1}):
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}},
            workers=specifications,
            silence_logs=50,
        )


def _visible_gpus(matrix: Matrix) -> list[str]:
    """The GPUs that are shared out among workers, as CUDA_VISIBLE_DEVICES names them."""
    devices = {model.device for model in matrix.models}
    if not devices & {"auto", "cuda"} or any(device.startswith("cuda:") for device in devices):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
