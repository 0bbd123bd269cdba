"""Runs cells on the workers of a dask cluster: processes of this machine, or somebody's cluster.

Every worker has one cell at a time, pinned to it, so that whose death a cell was is known. dask's
wire format is not safe against a hostile scheduler or worker: connect to your own only.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import dask
from distributed import Future, fire_and_forget, wait
from distributed.protocol.pickle import dumps

from bench.evaluation.compute import identity
from bench.evaluation.provenance import machine
from bench.execution.cell_runner import Watcher
from bench.execution.dask_cluster import (
    ANSWER_SECONDS,
    DIED,
    FAREWELL_SECONDS,
    Model,
    Worker,
    Workers,
    connected,
    needs,
)
from bench.execution.dask_worker import compute_here, leave, log_name
from bench.execution.executor import Computed, Executor, ScoresOf
from bench.execution.failure import CellTimeoutError, LoadTimeoutError, failure
from bench.execution.run_spec import RunSpec, UnfitError
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.options import LOAD_TIMEOUT, RunOptions
from bench.matrix.schema import Matrix
from bench.models.bridge import device_kind, shared_gpus
from bench.models.load import model_digest, stated_of
from bench.store.layout import LOGS
from bench.store.records import CellRecord

LOST_WORKERS = 3
"""A cell that so many workers were lost with is not tried again."""
NEWS_SECONDS = 0.5
STUCK_SECONDS = 10.0
"""A worker that has not begun with its cell for so long has something else to do."""
OVER = 0.9
"""Of a limit: who was lost after it was over it. That a cell was begun is heard a little late."""
LAST_LINES = 150
"""Of a worker's log: the stacks of a process that was ended are among them."""


class WorkerDiedError(RuntimeError):
    """The processes that computed a cell died."""


@dataclass
class Task:
    """A cell at a worker.

    Attributes:
        since: when it was given, or the worker said the latest of it, by the clock here.
        state: "taken" once the worker has begun with it (it may have had something else to do),
            "starting" once its model is there, and the cell's own time runs.
    """

    cell: PlannedCell
    worker: Worker
    future: Future
    since: float
    state: str = ""


class DaskExecutor(Executor):
    """Workers, each with a model of its own; results come back to this process."""

    def __init__(self, matrix: Matrix, options: RunOptions, directory: Path) -> None:
        self.local = options.scheduler is None
        cores = max(1, dask.system.CPU_COUNT // (options.workers or 1))
        self.options = replace(
            options,
            load_timeout=options.load_timeout or LOAD_TIMEOUT,
            threads=options.threads or (cores if self.local else None),
        )
        self.logs = (directory / LOGS).resolve()
        self.contents: dict[str, str] = {}
        self.tasks: dict[Worker, Task] = {}
        self.losses: dict[str, list[str]] = {}
        self.hung: dict[tuple[Model, str], Exception] = {}
        self.results: deque[Computed] = deque()
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.gpus = shared_gpus({model.device for model in matrix.models}) if self.local else []
        spec = RunSpec.of(matrix, self.options, self.logs if self.local else None)
        self.stack = ExitStack()
        client = self.stack.enter_context(connected(options, self.gpus))
        self.workers = Workers(client, spec, options.patience)

    def __exit__(self, *exception: object) -> None:
        """Takes back what is out, and tells all workers that the run is over."""
        client = self.workers.client
        with suppress(Exception):  # a scheduler that is gone must not hide why
            if client.status == "running":
                client.cancel([task.future for task in self.tasks.values()], force=True)
                able = [] if self.local else self.workers.able()
                told = [self.workers.submit(worker, leave) for worker in able]
                fire_and_forget(told)  # who is busy hears it after its cell
                wait(told, timeout=FAREWELL_SECONDS)
        with suppress(OSError, TimeoutError):
            self.stack.close()

    def expand(self, matrix: Matrix) -> list[PlannedCell]:
        """Of the workers' models, which need not be here, and their devices."""

        @cache
        def model(name: str) -> tuple[str, dict[str, str]]:
            here = (model_digest(name), stated_of(name)) if self.local else None
            return here or self.workers.digest(name)

        @cache
        def device(kind: str) -> str:
            if kind == "auto" and self.local:
                return "cuda" if self.gpus else "cpu"
            return self.workers.device(kind)

        return expand(
            matrix,
            lambda name: model(name)[0],
            lambda setting: device(device_kind(setting)),
            lambda name: model(name)[1],
        )

    def check(self, cells: Sequence[PlannedCell]) -> None:
        """Waits for a worker that can compute the first cell.

        Raises:
            NoWorkerError: if none comes, or all that are there have another version of the suite.
        """
        self.workers.device(needs(cells[0])[1])

    def compute(
        self, cells: Sequence[PlannedCell], scores_of: ScoresOf, watcher: Watcher
    ) -> Iterator[Computed]:
        """As results come in; a lost worker's cells go to another one."""
        self.waiting = {cell.id: cell for cell in cells}
        self.unfinished = set(self.waiting)
        self.scores_of, self.watcher = scores_of, watcher
        self.idle_since = time.monotonic()
        self.workers.client.subscribe_topic(
            self.workers.spec.run,
            lambda event: self.news.put({**event[1], "at": time.monotonic()}),
        )
        try:
            while self.waiting or self.tasks:
                self._look()
                self._give()
                self._hear()
                while self.results:
                    computed = self.results.popleft()
                    self._give()  # nobody waits while this one is stored
                    yield computed
                    self.unfinished.discard(computed[0].id)  # others may start from it now
                self._check_patience()
        except Exception as error:
            self.workers.check_scheduler(error)  # whatever dask says when it is gone
            raise

    def _look(self) -> None:
        """Sees who is gone, who was refused, and who does not begin while another one is idle."""
        for worker in self.workers.look():
            if task := self.tasks.get(worker):
                (self._lost if task.state else self._again)(task, "it died")
        while self.workers.untold:
            self.watcher.note(self.workers.untold.popleft())
        idle = [worker for worker in self.workers.able() if worker not in self.tasks]
        for task in list(self.tasks.values()):
            waited = not task.state and time.monotonic() - task.since > STUCK_SECONDS
            fit = (one for one in idle if waited and self.workers.fits(one, needs(task.cell)))
            if (free := next(fit, None)) is not None:
                idle.remove(free)
                self._again(task, "it is busy with something else, or its memory is full")
                self._submit(task.cell, free)

    def _check_patience(self) -> None:
        """Raises NoWorkerError if for too long nobody has computed."""
        if any(task.state for task in self.tasks.values()):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > self.options.patience:
            cells = [*self.waiting.values(), *(task.cell for task in self.tasks.values())]
            kinds = {needs(cell)[1] for cell in cells}
            raise self.workers.nobody(f"computes on {' or '.join(sorted(kinds))}", self.tasks)

    def _give(self) -> None:
        """Gives a cell to everybody who has none."""
        for worker in self.workers.able():
            cell = None if worker in self.tasks else self._next(worker)
            if cell is not None:
                self._submit(cell, worker)

    def _next(self, worker: Worker) -> PlannedCell | None:
        """The first cell for a worker, of the model that it has loaded if there is one left."""
        found = None
        for cell in self.waiting.values():
            model = needs(cell)
            if cell.parent not in self.unfinished and self.workers.fits(worker, model):
                if model == worker.loaded:
                    return cell
                found = found or cell
        return found

    def _submit(self, cell: PlannedCell, worker: Worker) -> None:
        del self.waiting[cell.id]
        model, kind = needs(cell)
        choice = cell.model
        if choice.device == "auto":  # which may mean another kind there
            choice = choice.model_copy(update={"device": kind})
        try:
            if error := self.hung.get(((model, kind), cell.task.label)):  # once a run is enough
                raise error.with_traceback(None)
            pickled = dumps(replace(cell, model=choice))  # of classes without a name too
        except Exception as error:
            self.results.append((cell, failure(cell, error, machine()), {}))
            return
        scores = None if cell.parent is None else self.scores_of(cell.parent)
        arguments = (pickled, self.contents, scores)
        gpu = kind == "cuda" and worker.has_gpu_resource
        future = self.workers.submit(worker, compute_here, *arguments, gpu=gpu)
        worker.loaded = model, kind
        self.tasks[worker] = Task(cell, worker, future, time.monotonic())
        future.add_done_callback(self.news.put)

    def _hear(self) -> None:
        """Waits a little until a worker says something of its cell, or a cell comes back."""
        with suppress(queue.Empty):
            news = self.news.get(timeout=NEWS_SECONDS)
            if not isinstance(news, Future):
                self._note(news)
            for task in [task for task in self.tasks.values() if task.future is news]:
                self._back(task)

    def _note(self, event: dict[str, Any]) -> None:
        """What a worker said of its cell."""
        what, text = event["what"], event["text"]
        if what == "loading":
            self.watcher.loading(text)
        for task in self.tasks.values():
            if task.worker.address != event["worker"]:
                continue
            self.logs.mkdir(parents=True, exist_ok=True)
            with self._log(task.worker).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {what} {text}\n")
            if text == task.cell.id:
                task.state, task.since = what, event["at"]
                if what == "starting":
                    self.watcher.starting(task.cell)

    def _log(self, worker: Worker) -> Path:
        """What a worker prints, where it is on this machine, and says."""
        return self.logs / log_name(worker.name)

    def _back(self, task: Task) -> None:
        """A cell came back, or the news that it will not."""
        worker, model = task.worker, needs(task.cell)
        try:
            text, tensors, has_model = task.future.result(timeout=ANSWER_SECONDS)
            record = CellRecord.model_validate_json(text)
        except (UnfitError, ImportError) as error:
            self.workers.refuse(worker, error)
            self._again(task, str(error))
        except DIED as error:
            self.workers.check_scheduler(error)
            self._lost(task, "dask gave it up" if task.future.cancelled() else "it died")
        except Exception as error:
            self._failed(task, error)
        else:
            if not has_model:
                worker.lacking.add(model)
            if not self.workers.fits(worker, model):
                why = record.error.message if record.error else ""
                self._again(task, f"it cannot load the model: {why}")
            else:
                record = record.model_copy(update=identity(task.cell))
                self._over(task, (task.cell, record, tensors))

    def _over(self, task: Task, result: Computed | None = None) -> None:
        """The worker has nothing to do with the cell any more."""
        task.future.cancel(force=True)
        del self.tasks[task.worker]
        if result is not None:
            self.idle_since = time.monotonic()  # a cell may be taken and done between two looks
            self.results.append(result)

    def _again(self, task: Task, why: str) -> None:
        """Another worker gets the cell."""
        self._over(task)
        self.watcher.interrupted(task.cell, f"{task.worker.address}: {why}")
        self.waiting = {task.cell.id: task.cell, **self.waiting}

    def _failed(self, task: Task, error: Exception, *log: str) -> None:
        """A failed record with more in its log than the exception."""
        limits = {name: getattr(self.options, name) for name in ("cell_timeout", "load_timeout")}
        given = {name: seconds for name, seconds in limits.items() if seconds is not None}
        here = {**machine(), "worker": task.worker.address, **given}
        self._over(task, (task.cell, failure(task.cell, error, here, *log), {}))

    def _lost(self, task: Task, why: str) -> None:
        """A worker was lost with a cell that it had begun; another one tries, but not for ever."""
        kind: type[CellTimeoutError | LoadTimeoutError] = LoadTimeoutError
        limit = self.options.load_timeout
        if task.state == "starting":
            kind, limit = CellTimeoutError, self.options.cell_timeout
        log = self._log(task.worker)
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        last = "\n".join([f"The last lines of {task.worker.name}:", *lines[-LAST_LINES:]])
        losses = self.losses.setdefault(task.cell.id, [])
        losses.append(f"{task.worker.address}: {why}\n{last}")
        error: Exception
        if limit is not None and time.monotonic() - task.since >= OVER * limit:
            error = kind(
                f"took longer than the limit of {limit:g} s; its worker was ended. Give more with "
                f"{kind.flag}"
            )
            if isinstance(error, LoadTimeoutError):
                self.hung[needs(task.cell), task.cell.task.label] = error
            self._failed(task, error, last)
        elif len(losses) < LOST_WORKERS:
            self._again(task, why)
        else:
            error = WorkerDiedError(
                f"{len(losses)} workers in turn were lost with this cell (the last one: {why}): it "
                "makes its process crash, or takes more memory than there is"
            )
            self._failed(task, error, *losses)
