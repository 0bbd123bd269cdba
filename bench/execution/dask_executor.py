"""Runs cells on the workers of a dask cluster: processes of this machine, or somebody's cluster.

Every worker has one cell at a time, pinned to it, so that whose death a cell was is known. dask's
wire format is not safe against a hostile scheduler or worker: connect to your own only.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, fire_and_forget, wait
from distributed.protocol.pickle import dumps

from bench.evaluation.compute import Tensors, identity
from bench.evaluation.provenance import machine
from bench.execution.cell_runner import Watcher
from bench.execution.dask_worker import compute_here, leave
from bench.execution.dask_workers import (
    LostError,
    Model,
    NotThereError,
    NoWorkerError,
    Worker,
    Workers,
    last_lines,
    log_file,
    needs,
)
from bench.execution.executor import Computed, Executor, ScoresOf
from bench.execution.failure import CellTimeoutError, LoadTimeoutError, failure
from bench.execution.local_cluster import local_cluster, shared_gpus
from bench.execution.run_spec import RunSpec
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.options import LOAD_TIMEOUT, RunOptions
from bench.matrix.schema import Matrix
from bench.models.bridge import device_kind
from bench.models.load import model_digest, stated_of
from bench.store.layout import LOGS
from bench.store.records import CellRecord

CONNECT_SECONDS = 10
FAREWELL_SECONDS = 5
LOST_WORKERS = 3
"""A cell that so many workers were lost with is not tried again."""
NEWS_SECONDS = 0.5
STUCK_SECONDS = 10.0
"""A worker that has not begun with its cell for so long has something else to do."""
OVER = 0.9
"""Of a limit: who was lost after it was over it. That a cell was begun is heard a little late."""


class WorkerDiedError(RuntimeError):
    """The processes that computed a cell died."""


@dataclass(eq=False)
class Task:
    """A cell at a worker.

    Attributes:
        taken: the worker has begun with it (it may have had a cell of another run before).
        computing: its model is there, and the cell's time runs.
        since: when the last of these was, by the clock here.
    """

    cell: PlannedCell
    worker: Worker
    future: Future
    since: float
    taken: bool = False
    computing: bool = False


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
        self.models: dict[str, tuple[str, dict[str, str]]] = {}
        self.devices: dict[str, str] = {}
        self.gpus = shared_gpus({model.device for model in matrix.models}) if self.local else []
        self.tasks: dict[str, Task] = {}
        self.losses: dict[str, list[str]] = {}
        self.hung: dict[tuple[Model, str], Exception] = {}
        self.results: deque[Computed] = deque()
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        spec = RunSpec.of(matrix, self.options, self.logs if self.local else None)
        with ExitStack() as stack:
            address = options.scheduler or stack.enter_context(
                local_cluster(options.workers or 1, self.gpus)
            )
            try:
                self.client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise NoWorkerError(
                    f"No dask scheduler answers at {address}: {error}. The address is what "
                    '`dask scheduler` prints, such as "tcp://10.0.0.1:8786".'
                ) from error
            stack.callback(self.client.close, timeout=FAREWELL_SECONDS)
            self.stack = stack.pop_all()
        self.workers = Workers(self.client, spec, options.patience)

    def __exit__(self, *exception: object) -> None:
        """Takes back what is out, and tells all workers that the run is over."""
        with suppress(Exception):  # a scheduler that is gone must not hide why
            if self.client.status == "running":
                self.client.cancel([task.future for task in self.tasks.values()], force=True)
                able = [] if self.local else self.workers.able()
                told = [self.workers.submit(worker, leave) for worker in able]
                fire_and_forget(told)  # who is busy hears it after its cell
                wait(told, timeout=FAREWELL_SECONDS)
        with suppress(OSError, TimeoutError):
            self.stack.close()

    def expand(self, matrix: Matrix) -> list[PlannedCell]:
        """Of the workers' models, which need not be here, and their devices."""
        return expand(matrix, lambda name: self._model(name)[0], self._device, self._stated)

    def _model(self, name: str) -> tuple[str, dict[str, str]]:
        """A model's digest and what its entry says."""
        if name not in self.models:
            here = (model_digest(name), stated_of(name)) if self.local else None
            self.models[name] = here or self.workers.digest(name)
        return self.models[name]

    def _stated(self, name: str) -> Mapping[str, str]:
        return self._model(name)[1]

    def _device(self, setting: str) -> str:
        """The kind of device that a setting means, the same for all cells of the run."""
        kind = device_kind(setting)
        if kind == "auto" and self.local:
            return "cuda" if self.gpus else "cpu"
        if kind not in self.devices:
            self.devices[kind] = self.workers.device(kind)
        return self.devices[kind]

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
        self.idle_since, told = time.monotonic(), 0
        self.client.subscribe_topic(
            self.workers.spec.run,
            lambda event: self.news.put({**event[1], "at": time.monotonic()}),
        )
        try:
            while self.waiting or self.tasks:
                self.workers.look()
                for refusal in list(self.workers.refusals.values())[told:]:
                    self.watcher.refused(refusal)
                told = len(self.workers.refusals)
                self._notice_losses()
                self._give()
                self._hear_news()
                while self.results:
                    computed = self.results.popleft()
                    self._give()  # nobody waits while this one is stored
                    yield computed
                    self.unfinished.discard(computed[0].id)  # others may start from it now
                self._check_patience()
        except Exception as error:
            self.workers.check_scheduler(error)  # whatever dask says when it is gone
            raise

    def _check_patience(self) -> None:
        """Raises NoWorkerError if for too long nobody has computed."""
        if any(task.taken for task in self.tasks.values()):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > self.options.patience:
            cells = [*self.waiting.values(), *(task.cell for task in self.tasks.values())]
            kinds = {needs(cell)[1] for cell in cells}
            raise self.workers.nobody(f"computes on {' or '.join(sorted(kinds))}")

    def _give(self) -> None:
        """Gives a cell to everybody who has none; to those last who did not begin with theirs."""
        for worker in sorted(self.workers.able(), key=lambda worker: worker.stuck):
            cell = None if worker.busy else self._next(worker)
            if cell is not None:
                del self.waiting[cell.id]
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
        worker.busy, worker.loaded = True, (model, kind)
        task = self.tasks[cell.id] = Task(cell, worker, future, time.monotonic())
        future.add_done_callback(lambda done: self.news.put(task))

    def _hear_news(self) -> None:
        """What workers said meanwhile, and what came back."""
        with suppress(queue.Empty):
            news = self.news.get(timeout=NEWS_SECONDS)
            while True:
                if isinstance(news, Task):
                    self._back(news)
                else:
                    self._note(news)
                news = self.news.get_nowait()

    def _note(self, event: dict[str, Any]) -> None:
        """What a worker said of its cell."""
        what, text = event["what"], event["text"]
        if what == "loading":
            self.watcher.loading(text)
        for task in self.tasks.values():
            if task.worker.address != event["worker"]:
                continue
            with log_file(self.logs, task.worker).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {what} {text}\n")
            if text == task.cell.id:
                task.taken, task.computing = True, what == "starting"
                task.worker.stuck, task.since = False, event["at"]
                if task.computing:
                    self.watcher.starting(task.cell)

    def _back(self, task: Task) -> None:
        """A cell came back, or the news that it will not."""
        if self.tasks.get(task.cell.id) is not task:
            return  # it was given up before
        try:
            text, tensors, has_model = self.workers.result(task.worker, task.future)
            record = CellRecord.model_validate_json(text)
        except NotThereError as error:
            self._again(task, str(error))
        except LostError as error:
            self._lost(task, str(error))
        except NoWorkerError:
            raise
        except Exception as error:
            self._failed(task, error)
        else:
            if not has_model:
                task.worker.lacking.add(needs(task.cell))
            if self.workers.lacks(task.worker, needs(task.cell)):
                why = record.error.message if record.error else ""
                self._again(task, f"it cannot load the model: {why}")
            else:
                self._done(task, record, tensors)

    def _again(self, task: Task, why: str) -> None:
        """Another worker gets the cell."""
        self._give_up(task)
        self.watcher.interrupted(task.cell, f"{task.worker.address}: {why}")
        self.waiting = {task.cell.id: task.cell, **self.waiting}

    def _give_up(self, task: Task) -> None:
        """The worker has nothing to do with the cell any more."""
        task.future.cancel(force=True)
        del self.tasks[task.cell.id]
        task.worker.busy = False

    def _done(self, task: Task, record: CellRecord, tensors: Tensors) -> None:
        self._give_up(task)
        self.idle_since = time.monotonic()  # a cell may be taken and done between two looks
        record = record.model_copy(update=identity(task.cell))
        self.results.append((task.cell, record, tensors))

    def _failed(self, task: Task, error: Exception, *log: str) -> None:
        """A failed record with more in its log than the exception."""
        here = {**machine(), "worker": task.worker.address}
        for name in ("cell_timeout", "load_timeout"):  # those that there are
            if (seconds := getattr(self.options, name)) is not None:
                here[name] = seconds
        self._done(task, failure(task.cell, error, here, *log), {})

    def _notice_losses(self) -> None:
        """Cells whose worker is gone, or does not begin with them while another one is idle."""
        idle = [worker for worker in self.workers.able() if not worker.busy]
        for task in list(self.tasks.values()):
            if task.taken:
                if not task.worker.there:
                    self._lost(task, "it died")
            elif not (task.worker.there and task.worker.running):
                self._again(task, "it is gone, or dask paused it because its memory is full")
            elif time.monotonic() - task.since > STUCK_SECONDS:
                free = next((one for one in idle if self.workers.fits(one, needs(task.cell))), None)
                if free is not None:
                    idle.remove(free)
                    task.worker.stuck = True
                    self._again(task, "it is busy with something else")

    def _lost(self, task: Task, why: str) -> None:
        """A worker was lost with a cell that it had begun; another one tries, but not for ever."""
        said = last_lines(log_file(self.logs, task.worker), task.worker)
        if (error := self._timeout(task)) is not None:
            if isinstance(error, LoadTimeoutError):
                self.hung[needs(task.cell), task.cell.task.label] = error
            self._failed(task, error, said)
            return
        losses = self.losses.setdefault(task.cell.id, [])
        losses.append(f"{task.worker.address}: {why}\n{said}")
        if len(losses) < LOST_WORKERS:
            self._again(task, why)
            return
        error = WorkerDiedError(
            f"{len(losses)} workers in turn were lost with this cell (the last one: {why}): it "
            "makes its process crash, or takes more memory than there is"
        )
        self._failed(task, error, *losses)

    def _timeout(self, task: Task) -> Exception | None:
        """The limit at which a lost worker ended itself; None if it was lost before."""
        kind = CellTimeoutError if task.computing else LoadTimeoutError
        limit = self.options.cell_timeout if task.computing else self.options.load_timeout
        if limit is None or time.monotonic() - task.since < OVER * limit:
            return None
        return kind(
            f"took longer than the limit of {limit:g} s; its worker was ended. Give more with "
            f"{kind.flag}"
        )
