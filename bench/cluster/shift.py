"""The cells that are out at workers, and what comes back of them."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future, KilledWorker

from bench.cluster.desk import compute_at_worker
from bench.cluster.local_workers import NoWorkerError
from bench.cluster.orders import Identities, WorkerError
from bench.cluster.waiting import Waiting, needs
from bench.cluster.waits import LOST_WORKERS, answer, nobody, stacks
from bench.cluster.worker import Worker
from bench.cluster.workers import Workers
from bench.evaluation.compute import Tensors, identity
from bench.evaluation.provenance import machine
from bench.matrix.cells import PlannedCell
from bench.running.alone import Computed, CrewWatcher, ScoresOf
from bench.running.failure import failure
from bench.running.limits import CellTimeoutError, LoadTimeoutError, in_force
from bench.store.records import CellRecord

GRACE = 1.5
"""A worker that is so many times over the limit of a cell does not answer, and is ended."""
GRACE_SECONDS = 5.0
RESULT_SECONDS = 600.0
"""What a result may take on the way."""
NEWS_SECONDS = 0.5
STUCK_SECONDS = 10.0
"""A worker that has not begun with its cell for so long has something else to do."""


class WorkerDiedError(RuntimeError):
    """The processes that computed a cell died."""


@dataclass
class Out:
    """A cell that is out.

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


class Shift:
    """Gives every worker one cell at a time, and yields what comes back."""

    def __init__(
        self,
        workers: Workers,
        identities: Identities,
        cells: Sequence[PlannedCell],
        scores_of: ScoresOf,
        watcher: CrewWatcher,
    ) -> None:
        self.workers, self.identities = workers, identities
        self.client: Client = workers.client
        self.scores_of, self.watcher = scores_of, watcher
        self.run_name = workers.orders.run
        self.waiting = Waiting(cells)
        self.out: dict[str, Out] = {}
        self.losses: dict[str, list[str]] = {}
        self.told = 0
        self.idle_since = time.monotonic()
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def cells(self) -> Iterator[Computed]:
        """See `Crew.compute`."""
        self.client.subscribe_topic(self.run_name, lambda event: self.news.put(event[1]))
        try:
            while self.waiting or self.out:
                self.workers.look()
                self._tell_refusals()
                yield from self._without_worker()
                self._unstick()
                self._fill()
                self.workers.check_refusals()
                yield from self._next()
                self._check_patience()
                yield from self._overdue()
        except Exception as error:
            self.workers.check_scheduler(error)  # whatever dask says when it is gone
            raise
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self.client.unsubscribe_topic(self.run_name)
                self.client.cancel([out.future for out in self.out.values()], force=True)

    def _check_patience(self) -> None:
        """Raises ClusterLostError if for too long nobody has computed."""
        if any(out.taken for out in self.out.values()):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > self.workers.patience:
            kinds = self.waiting.kinds | {needs(out.cell)[1] for out in self.out.values()}
            raise nobody(self.workers, f"computes on {' or '.join(sorted(kinds))}")

    def _tell_refusals(self) -> None:
        """Who cannot take part is no secret, even where others compute."""
        refusals = list(self.workers.refusals.values())
        for words in refusals[self.told :]:
            self.watcher.refused(words)
        self.told = len(refusals)

    def _unstick(self) -> None:
        """Cells that wait behind somebody else's work go to workers that have nothing to do."""
        idle = [worker for worker in self.workers.able() if not worker.busy]
        for out in list(self.out.values()):
            if out.taken or time.monotonic() - out.since < STUCK_SECONDS:
                continue
            free = next((one for one in idle if self.workers.fits(one, needs(out.cell))), None)
            if free is not None:
                idle.remove(free)
                out.worker.stuck = True
                self._again(out, "it is busy with something else")

    def _fill(self) -> None:
        """Gives a cell to everybody who has none; to those last who did not begin with theirs."""
        for worker in sorted(self.workers.able(), key=lambda worker: worker.stuck):
            if not worker.busy:
                shunned = self.workers.shunned(worker)
                cell = self.waiting.take(worker.kinds, worker.loaded, shunned)
                if cell is not None:
                    self._give(cell, worker)

    def _give(self, cell: PlannedCell, worker: Worker) -> None:
        scores = None if cell.parent is None else self.scores_of(cell.parent)
        future = self.workers.submit(
            worker.address,
            compute_at_worker,
            self.run_name,
            cell.id,
            self.identities,
            scores,
            cell.rows,
            gpu=needs(cell)[1] == "cuda" and worker.has_gpu_resource,
        )
        worker.busy, worker.loaded = True, needs(cell)
        out = self.out[cell.id] = Out(cell, worker, future, time.monotonic())
        future.add_done_callback(lambda done: self.news.put(out))

    def _next(self) -> Iterator[Computed]:
        """What the next pieces of news lead to."""
        with suppress(queue.Empty):
            news = self.news.get(timeout=NEWS_SECONDS)
            while True:
                if isinstance(news, Out):
                    yield from self._back(news)
                    return
                self._note(news)
                news = self.news.get_nowait()

    def _note(self, event: dict[str, Any]) -> None:
        """What a worker said of its cell."""
        what, text = event["what"], event["text"]
        self.workers.said(event["worker"], f"{what} {text}")
        if what == "loading":
            self.watcher.loading(text)
        out = self.out.get(text)
        if out is not None and out.worker.address == event["worker"]:
            out.taken, out.computing = True, what == "starting"
            out.worker.stuck = False
            out.since = time.monotonic()
            if out.computing:
                self.watcher.starting(out.cell)

    def _back(self, out: Out) -> Iterator[Computed]:
        """A cell came back, or the news that it will not."""
        if self.out.get(out.cell.id) is not out:
            return  # it was given up before
        try:
            found = self._result(out)
        except NoWorkerError:
            raise
        except (WorkerError, ImportError) as error:  # it did not come to computing the cell
            self.workers.part_with(out.worker, error)
            self._again(out, str(error))
        except (KilledWorker, CancelledError) as error:
            self.workers.check_scheduler(error)
            died = isinstance(error, KilledWorker)
            yield from self._lost(out, "it died" if died else "dask gave it up")
        except Exception as error:
            yield from self._done(out, self._failure(out, error), {})
        else:
            yield from self._arrived(out, found)

    def _result(self, out: Out) -> tuple[CellRecord, Tensors, bool] | None:
        """What came back (`Keeper.compute`); None if it is lost on the way."""
        found = answer(self.workers, out.worker, out.future, RESULT_SECONDS)
        if found is None:
            return None
        text, tensors, has_model = found
        return CellRecord.model_validate_json(text), tensors, has_model

    def _arrived(
        self, out: Out, found: tuple[CellRecord, Tensors, bool] | None
    ) -> Iterator[Computed]:
        """A result is there; where the worker only lacks the model, another one is tried."""
        if found is None:
            yield from self._lost(out, "the result did not arrive")
            return
        record, tensors, has_model = found
        if not has_model:
            out.worker.lacking.add(needs(out.cell))
            if needs(out.cell) in self.workers.shunned(out.worker):
                why = record.error.message if record.error else ""
                self._again(out, f"it cannot load the model: {why}")
                return
        yield from self._done(out, record, tensors)

    def _free(self, out: Out) -> None:
        """The worker has nothing to do with the cell any more."""
        del self.out[out.cell.id]
        out.worker.busy = False

    def _done(self, out: Out, record: CellRecord, tensors: Tensors) -> Iterator[Computed]:
        self._free(out)
        self._fill()  # nobody waits while this one is stored
        yield out.cell, record.model_copy(update=identity(out.cell)), tensors
        self.idle_since = time.monotonic()  # a cell may be taken and done between two looks
        self.waiting.finished(out.cell)

    def _again(self, out: Out, why: str) -> None:
        """Another worker gets the cell."""
        out.future.cancel(force=True)
        self._free(out)
        self.watcher.interrupted(out.cell, f"{out.worker.address}: {why}")
        self.waiting.put(out.cell)

    def _without_worker(self) -> Iterator[Computed]:
        """Cells whose worker is gone, or was paused before it began with them."""
        for out in list(self.out.values()):
            if not out.taken and not (out.worker.there and out.worker.running):
                self._again(out, "it is gone, or dask paused it because its memory is full")
            elif not out.worker.there:
                yield from self._lost(out, "it died")

    def _lost(self, out: Out, why: str) -> Iterator[Computed]:
        """A worker was lost with a cell that it had begun; another one tries, but not for ever."""
        losses = self.losses.setdefault(out.cell.id, [])
        losses.append(f"{out.worker.address}: {why}\n{self.workers.logs.tail(out.worker.name)}")
        if len(losses) < LOST_WORKERS:
            self._again(out, why)
            return
        error = WorkerDiedError(
            f"{len(losses)} workers in turn were lost with this cell (the last one: {why}): it "
            "makes its process crash, or takes more memory than there is"
        )
        yield from self._done(out, self._failure(out, error, *losses), {})

    def _failure(self, out: Out, error: Exception, *log: str) -> CellRecord:
        """A failed record with more in its log than the exception."""
        orders = self.workers.orders
        limits = in_force(orders.cell_timeout, orders.load_timeout)
        here = {**machine(), "worker": out.worker.address, **limits}
        return failure(out.cell, error, here, *log)

    def _overdue(self) -> Iterator[Computed]:
        """Ends workers that do not come back from a cell, with the cell."""
        orders = self.workers.orders
        for out in list(self.out.values()):
            limit = orders.cell_timeout if out.computing else orders.load_timeout
            late = time.monotonic() - out.since
            if out.taken and limit is not None and late > GRACE * limit + GRACE_SECONDS:
                yield from self._ended(out, limit)

    def _ended(self, out: Out, limit: float) -> Iterator[Computed]:
        """A worker that hangs is ended, with the cell; its record says where it hung."""
        kind = CellTimeoutError if out.computing else LoadTimeoutError
        error = kind(
            f"took longer than the limit of {limit:g} s and did not stop; its worker was ended. "
            f"Give more with {kind.flag}"
        )
        log = stacks(self.client, out.future), self.workers.logs.tail(out.worker.name)
        out.future.cancel(force=True)
        self.workers.end(out.worker)
        yield from self._done(out, self._failure(out, error, *log), {})
