"""The workers of a scheduler, as one run knows them: who is there, hired, able, and busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import count
from typing import Any

from distributed import Client, Future, KilledWorker, fire_and_forget, wait

from bench.cluster.desk import dismiss, hire
from bench.cluster.local_workers import LocalWorkers, NoWorkerError
from bench.cluster.orders import NotHiredError, Orders, UnfitError
from bench.cluster.sealed import opened, sealed
from bench.cluster.waiting import Loaded
from bench.cluster.worker import Worker
from bench.cluster.worker_logs import WorkerLogs

LOOK_SECONDS = 1.0
"""How often the scheduler is asked who is there."""
ANSWER_SECONDS = 60.0
"""A scheduler that does not answer for so long is lost."""
FAREWELL_SECONDS = 5.0


class ClusterLostError(NoWorkerError):
    """The scheduler or its workers cannot be reached, or not any more."""


LOST = (
    "The connection to the dask scheduler is lost. Finished cells are stored; the same command "
    "goes on."
)


class Workers:
    """Hires every worker that comes."""

    def __init__(
        self,
        client: Client,
        orders: Orders,
        local: LocalWorkers | None,
        logs: WorkerLogs,
        patience: float,
    ) -> None:
        self.client, self.orders, self.local, self.logs = client, orders, local, logs
        self.patience = patience
        self.known: dict[str, Worker] = {}
        self.refusals: dict[str, str] = {}
        self.looked = 0.0
        self.numbers = count()
        self.hired: set[str] = set()

    def able(self) -> list[Worker]:
        """Those who can be given something now."""
        return [worker for worker in self.known.values() if worker.able]

    @property
    def answering(self) -> bool:
        """Whether somebody has not answered yet."""
        return any(not worker.kinds for worker in self.known.values())

    def look(self) -> None:
        """Sees who came and who is gone; at most every `LOOK_SECONDS`.

        Raises:
            ClusterLostError: if the scheduler does not answer.
            NoWorkerError: if the processes of this machine do not start.
        """
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return
        there = self._there()
        for key, worker in list(self.known.items()):
            if key not in there:
                worker.there = False
                del self.known[key]
        for key, facts in there.items():
            if key not in self.known and key not in self.refusals:
                self.known[key] = self._hire(key, facts)
            elif key in self.known:
                self.known[key].running = facts["status"] == "running"
        self._hear_answers()
        if self.local is not None:
            self.local.look({str(facts["name"]) for facts in there.values()})
        self.looked = time.monotonic()

    def _there(self) -> dict[str, dict[str, Any]]:
        """The workers that the scheduler knows, by their ids."""
        if self.client.status == "connecting":  # dask tries again, and gives up some time
            return {key: {"status": "running", "name": w.name} for key, w in self.known.items()}
        self.check_scheduler()
        try:
            known = self.client.sync(
                self.client.scheduler.identity, callback_timeout=ANSWER_SECONDS
            )
        except (OSError, TimeoutError, AttributeError) as error:
            raise ClusterLostError(LOST) from error
        return {
            facts["id"]: {**facts, "address": address}
            for address, facts in known["workers"].items()
        }

    def check_scheduler(self, error: Exception | None = None) -> None:
        """Raises ClusterLostError, because of `error`, if dask has given the scheduler up."""
        if self.client.status not in ("running", "connecting"):
            raise ClusterLostError(LOST) from error

    def _hire(self, key: str, facts: dict[str, Any]) -> Worker:
        address = facts["address"]
        hiring = self.submit(address, hire, self.orders)
        gpu = bool(facts["resources"].get("GPU"))
        return Worker(address, key, str(facts["name"]), gpu, hiring)

    def submit(
        self, address: str, function: Callable[..., Any], *arguments: Any, gpu: bool = False
    ) -> Future:
        """A task for one worker alone: who dies of it is known, and nothing waits behind it.

        Neither the scheduler nor a worker of somebody else's needs the suite to pass it on.
        """
        return self.client.submit(
            opened,
            sealed(function, *arguments),
            key=f"{self.orders.run}/{function.__name__}/{next(self.numbers)}",
            workers=[address],
            allow_other_workers=False,
            resources={"GPU": 1} if gpu else None,
            pure=False,
        )

    def _hear_answers(self) -> None:
        for worker in list(self.known.values()):
            if worker.kinds or worker.hiring.status == "pending":
                continue
            try:
                worker.kinds = frozenset(worker.hiring.result(timeout=ANSWER_SECONDS))
                self.hired.add(worker.id)
            except (CancelledError, TimeoutError, KilledWorker):
                self.hire_again(worker)
            except Exception as error:
                self.refuse(worker, error)

    def part_with(self, worker: Worker, error: Exception) -> None:
        """Something is the matter with a worker: it is hired again, or asked for nothing more."""
        if isinstance(error, NotHiredError):
            self.hire_again(worker)
        else:
            self.refuse(worker, error)

    def refuse(self, worker: Worker, error: Exception) -> None:
        """A worker cannot take part; it is asked for nothing again."""
        why = str(error)
        if not isinstance(error, UnfitError):  # it did not even get into the suite
            why = (
                f"cannot take part: {type(error).__name__}: {error}. The same attribution-bench "
                "and its requirements have to be installed there."
            )
        self.refusals[worker.id] = f"The worker {worker.called} {why}"
        self.logs.add(worker.name, self.refusals[worker.id])
        self.known.pop(worker.id, None)
        self.hired.discard(worker.id)

    def check_refusals(self) -> None:
        """Raises NoWorkerError if all who ever came cannot take part."""
        if self.refusals and not self.known and not self.hired:
            raise NoWorkerError("\n".join(dict.fromkeys(self.refusals.values())))

    def fits(self, worker: Worker, needed: Loaded) -> bool:
        """Whether a worker should be given cells of a model."""
        return needed[1] in worker.kinds and needed not in self.shunned(worker)

    def shunned(self, worker: Worker) -> set[Loaded]:
        """The models that a worker could not load, and that another one may have."""
        others = [other for other in self.known.values() if other is not worker]
        return {one for one in worker.lacking if any(other.may_have(one) for other in others)}

    def hire_again(self, worker: Worker) -> None:
        """Its process is a new one."""
        worker.kinds = frozenset()
        worker.lacking = set()
        worker.hiring = self.submit(worker.address, hire, self.orders)

    def end(self, worker: Worker) -> None:
        """Has a worker that does not answer started anew; without a nanny it stays as it is."""
        worker.ended = True
        if self.local is not None:
            self.local.end(worker.name)
            return

        def restart() -> None:
            with suppress(Exception):
                self.client.restart_workers([worker.address], timeout=30, raise_for_error=False)

        threading.Thread(target=restart, daemon=True).start()

    def said(self, address: str, text: str) -> None:
        """Keeps what a worker said."""
        names = (worker.name for worker in self.known.values() if worker.address == address)
        self.logs.add(next(names, address), text)

    def dismiss(self) -> None:
        """Tells all that the run is over; who is busy hears it after its cell."""
        if self.local is not None:
            return  # they end with the run
        with suppress(Exception):
            futures = [self.submit(w.address, dismiss, self.orders.run) for w in self.able()]
            fire_and_forget(futures)
            if futures:
                wait(futures, timeout=FAREWELL_SECONDS)
