"""The workers of a dask scheduler, as one run knows them: who is there, who is fit, who is lost."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker
from distributed.protocol.pickle import dumps

from bench.execution.cell_queue import Model
from bench.execution.dask_worker import prepare
from bench.execution.run_spec import RunSpec, UnfitError
from tasks.errors import UserInputError

LOOK_SECONDS = 1.0
"""How often the scheduler is asked who is there."""
ANSWER_SECONDS = 60.0
"""A scheduler that does not answer, and a result that does not arrive, for so long is lost."""
STACK_SECONDS = 5.0
LAST_LINES = 30
T = TypeVar("T")


class NoWorkerError(UserInputError):
    """There is nobody who computes, or not any more."""


LOST = (
    "The connection to the dask scheduler is lost. Finished cells are stored; the same command "
    "goes on."
)


@dataclass(eq=False)
class Worker:
    """A worker as this run knows it.

    Attributes:
        address: where it listens.
        id: another one for another process at the same address.
        name: what it is called.
        nanny: where the process listens that starts it again; None if it has none.
        has_gpu_resource: it declares the resource `GPU`, of which a cell on CUDA takes one.
        preparing: its answer to `prepare`.
        kinds: the kinds of device it can compute on, once it has answered.
        stack_file: where its process leaves its stack.
        there: the scheduler knows it still.
        running: it takes tasks: dask pauses a worker whose memory is full.
        loaded: what it was last given a cell of.
        busy: it has a cell of this run.
        stuck: it did not begin with a cell that it was given: it has work of somebody else's.
        lacking: models that it could not load.
    """

    address: str
    id: str
    name: str
    nanny: str | None
    has_gpu_resource: bool
    preparing: Future | None = None
    kinds: frozenset[str] = frozenset()
    stack_file: str = ""
    there: bool = True
    running: bool = True
    loaded: Model | None = None
    busy: bool = False
    stuck: bool = False
    lacking: set[Model] = field(default_factory=set)

    @property
    def called(self) -> str:
        """How sentences call it."""
        return self.address if self.name == self.address else f'"{self.name}" ({self.address})'

    @property
    def in_words(self) -> str:
        """What it is and does."""
        kinds = ", ".join(sorted(self.kinds)) or "no answer yet: it may be busy"
        paused = "" if self.running else ", paused by dask: its memory is full"
        busy = ", has not begun with its cell: it is busy" if self.busy else ""
        return f"{self.called} ({kinds}{paused}{busy})"

    def may_load(self, model: Model) -> bool:
        """Whether it may be able to: it has not tried, or has not even answered."""
        return model not in self.lacking and (not self.kinds or model[1] in self.kinds)


class _Call:
    """Is pickled as a call, which is carried out where it is unpickled."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


class Workers:
    """Asks every worker that comes whether it can take part, and keeps those that can."""

    def __init__(self, client: Client, spec: RunSpec, patience: float) -> None:
        self.client, self.spec, self.patience = client, spec, patience
        self.known: dict[str, Worker] = {}
        self.refusals: dict[str, str] = {}
        self.fit: set[str] = set()
        self.logs: Path | None = None
        self.looked = 0.0
        self.numbers = count()

    def able(self) -> list[Worker]:
        """Those who can be given something now."""
        return [worker for worker in self.known.values() if worker.kinds and worker.running]

    def look(self) -> None:
        """Sees who came and who is gone; at most every `LOOK_SECONDS`.

        Raises:
            NoWorkerError: if the scheduler does not answer, or all who ever came were refused.
        """
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return
        there = self._there()
        for key in self.known.keys() - there.keys():
            self.known.pop(key).there = False
        for key in there.keys() - self.refusals.keys():
            facts = there[key]
            if key not in self.known:
                gpu = bool(facts["resources"].get("GPU"))
                self.known[key] = Worker(
                    facts["address"], key, str(facts["name"]), facts["nanny"], gpu
                )
            self.known[key].running = facts["status"] == "running"
        for worker in list(self.known.values()):
            if not worker.kinds:
                self._hear(worker)
        if self.refusals and not self.known and not self.fit:
            raise NoWorkerError("\n".join(dict.fromkeys(self.refusals.values())))
        self.looked = time.monotonic()

    def _there(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of its workers, by their ids."""
        while self.client.status == "connecting":  # dask tries again, and gives up some time
            time.sleep(LOOK_SECONDS)
        self.check_scheduler()
        try:
            known = self.client.sync(
                self.client.scheduler.identity, callback_timeout=ANSWER_SECONDS
            )
        except (OSError, TimeoutError, AttributeError) as error:
            raise NoWorkerError(LOST) from error
        return {
            facts["id"]: {**facts, "address": address}
            for address, facts in known["workers"].items()
        }

    def check_scheduler(self, error: Exception | None = None) -> None:
        """Raises NoWorkerError, because of `error`, if dask has given the scheduler up."""
        if self.client.status not in ("running", "connecting"):
            raise NoWorkerError(LOST) from error

    def submit(
        self, worker: Worker, function: Callable[..., Any], *arguments: Any, gpu: bool = False
    ) -> Future:
        """A task for one worker alone: who dies of it is known, and nothing waits behind it.

        It travels as bytes: a scheduler, or another worker, that cannot import the suite passes
        them on, and where the suite is missing, it is the call that fails and not the worker.
        """
        return self.client.submit(
            pickle.loads,
            pickle.dumps(_Call(function, arguments)),
            key=f"{self.spec.run}/{function.__name__}/{next(self.numbers)}",
            workers=[worker.address],
            allow_other_workers=False,
            resources={"GPU": 1} if gpu else None,
            pure=False,
        )

    def _hear(self, worker: Worker) -> None:
        if worker.preparing is None:
            worker.preparing = self.submit(worker, prepare, self.spec)
        if worker.preparing.status == "pending":
            return
        try:
            kinds, worker.stack_file = worker.preparing.result(timeout=ANSWER_SECONDS)
            worker.kinds = frozenset(kinds)
            self.fit.add(worker.id)
        except (CancelledError, TimeoutError, KilledWorker):
            worker.preparing = None
        except Exception as error:
            self.refuse(worker, error)

    def refuse(self, worker: Worker, error: Exception) -> None:
        """A worker cannot take part; it is asked for nothing again, and is left running."""
        why = str(error)
        if not isinstance(error, UnfitError):  # it did not even get into the suite
            why = (
                f"cannot take part: {type(error).__name__}: {error}. The same attribution-bench "
                "and its requirements have to be installed there."
            )
        self.refusals[worker.id] = f"The worker {worker.called} {why}"
        self.known.pop(worker.id, None)
        self.fit.discard(worker.id)

    def forgotten(self, worker: Worker) -> None:
        """A new process stands for the worker: it is asked anew."""
        worker.kinds, worker.preparing, worker.lacking = frozenset(), None, set()

    def lacks(self, worker: Worker, model: Model) -> bool:
        """Whether a worker could not load a model that another one may have."""
        return model in worker.lacking and any(w.may_load(model) for w in self.known.values())

    def until(self, found: Callable[[], T | None], what: str) -> T:
        """Waits, as long as patience lasts, until `found` gives something.

        Raises:
            NoWorkerError: if nothing came; says what the workers that are there have said.
        """
        deadline = time.monotonic() + self.patience
        while True:
            self.look()
            answer = found()
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise self.nobody(what)
            time.sleep(0.05)

    def nobody(self, what: str) -> NoWorkerError:
        """There is no worker that does what is wanted, in words."""
        there = ", ".join(worker.in_words for worker in self.known.values()) or "none"
        said = "".join(f"\n{refusal}" for refusal in self.refusals.values())
        return NoWorkerError(
            f"No worker {what} within {self.patience:g} s (--patience). Workers that are there: "
            f"{there}. Finished cells are stored; the same command goes on.{said}"
        )

    def log_file(self, worker: Worker) -> Path:
        """A file for what a worker says; one that is called by its address has that as its name."""
        assert self.logs is not None
        self.logs.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9._]+", "-", worker.name).strip("-.") or "worker"
        return self.logs / f"{name}.log"

    def last_words(self, worker: Worker) -> str:
        """The last lines of a worker's log, for the log of a cell that failed with it."""
        file = self.log_file(worker)
        lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
        return "\n".join([f"The last lines of {worker.name}:", *lines[-LAST_LINES:]])

    def stack_of(self, worker: Worker) -> str:
        """What a lost worker's process wrote when it ended; "" if that cannot be had.

        It is read through the process that starts the worker again, on the worker's machine.
        """

        async def at_nanny(function: Callable[..., Any]) -> Any:
            arguments = dumps((Path(worker.stack_file),))
            return await self.client.rpc(worker.nanny).run(function=dumps(function), args=arguments)

        answer: dict[str, Any] = {}
        if worker.nanny is not None:
            with suppress(OSError, TimeoutError):
                answer = self.client.sync(at_nanny, Path.read_text, callback_timeout=STACK_SECONDS)
                self.client.sync(at_nanny, Path.unlink, callback_timeout=STACK_SECONDS)
        return str(answer["result"]) if answer.get("status") == "OK" else ""
