"""A run's dask cluster: started on this machine or somebody's; who is there, who can take part."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import dask
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, SpecCluster

from bench.execution.dask_worker import digest_here, prepare
from bench.execution.run_spec import RunSpec, unfit
from bench.matrix.cells import PlannedCell
from bench.matrix.options import RunOptions
from tasks.errors import UserInputError

AT_START = """
import faulthandler, signal
faulthandler.enable(file=2)  # a crash shows where it was
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started the run
"""
START_SECONDS, CLOSE_SECONDS = 120, 30
CONNECT_SECONDS, FAREWELL_SECONDS = 10, 5
LOOK_SECONDS = 1.0
"""How often the scheduler is asked who is there."""
ANSWER_SECONDS = 60.0
"""A scheduler that does not answer, and a result that does not arrive, for so long is lost."""
SETTLED_SECONDS = 60.0
"""Before what `auto` means is decided, all workers that are there are heard, but not for longer."""
LOST = (
    "The connection to the dask scheduler is lost. Finished cells are stored; the same command "
    "goes on."
)
DIED = (KilledWorker, CancelledError, TimeoutError)
"""What dask raises for a task whose worker is gone."""
T = TypeVar("T")
Model = tuple[str, str]
"""What a worker has in its memory: a model as tables call it, and the kind of its device."""


def needs(cell: PlannedCell) -> Model:
    """What a worker has to have loaded for a cell."""
    return cell.model_label, cell.settings["model"]["device"]


class NoWorkerError(UserInputError):
    """There is nobody who computes, or not any more."""


@contextmanager
def connected(options: RunOptions, gpus: Sequence[str]) -> Iterator[Client]:
    """The scheduler that a run was told, or one of its own with workers here, in the block.

    Raises:
        UserInputError: if there is none, or processes cannot be started.
    """
    with ExitStack() as stack:
        address = options.scheduler
        if address is None:
            cluster = local_cluster(options.workers or 1, gpus)
            stack.callback(cluster.close, timeout=CLOSE_SECONDS)
            address = cluster.scheduler_address
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise NoWorkerError(
                f"No dask scheduler answers at {address}: {error}. The address is what "
                '`dask scheduler` prints, such as "tcp://10.0.0.1:8786".'
            ) from error
        stack.callback(client.close, timeout=FAREWELL_SECONDS)
        yield client


def local_cluster(number: int, gpus: Sequence[str]) -> SpecCluster:
    """A scheduler in this process and `number` workers, which listen on this machine only.

    A worker computes one cell at a time, without a limit on memory, spilling or sampling: a cell's
    numbers and its time are those of one process. One that dies is started again.

    Args:
        number: of workers.
        gpus: as CUDA_VISIBLE_DEVICES names them, one for each of the first workers.

    Raises:
        UserInputError: if processes cannot be started.
    """
    quiet = {"distributed.worker.profile.enabled": False, "distributed.nanny.pre-spawn-environ": {}}
    here = {"host": "127.0.0.1", "dashboard": False}
    # Any port: dask's own choice is taken as soon as there are two runs.
    scheduler = {"cls": Scheduler, "options": {**here, "dashboard_address": ":0"}}
    workers = {}
    for index in range(number):
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus[index : index + 1])} if gpus else {}
        options = {
            **here,
            "name": f"worker-{index}",
            "nthreads": 1,
            "memory_limit": None,
            "env": {"TOKENIZERS_PARALLELISM": "false", **visible},
            "config": quiet,
            "preload": [AT_START],
            "death_timeout": START_SECONDS,
            "silence_logs": 50,
        }
        workers[index] = {"cls": Nanny, "options": options}
    try:
        with dask.config.set(quiet):
            return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50)
    except (RuntimeError, OSError) as error:
        raise UserInputError(f"Worker processes do not start: {error}") from error


@dataclass(eq=False)
class Worker:
    """A worker as this run knows it.

    Attributes:
        address: where it listens.
        id: another one for another process at the same address.
        name: what it is called.
        has_gpu_resource: it declares the resource `GPU`, of which a cell on CUDA takes one.
        answer: to whether it can take part; None if it has to be asked.
        kinds: the kinds of device it can compute on, once it has answered.
        loaded: what it was last given a cell of.
        lacking: models that it could not load.
    """

    address: str
    id: str
    name: str
    has_gpu_resource: bool
    answer: Future | None = None
    kinds: frozenset[str] = frozenset()
    loaded: Model | None = None
    lacking: set[Model] = field(default_factory=set)

    @property
    def called(self) -> str:
        """How sentences call it."""
        return self.address if self.name == self.address else f'"{self.name}" ({self.address})'


class Workers:
    """Asks every worker that comes whether it can take part, and keeps those that can.

    Attributes:
        known: those that are there and were not refused, by id.
        refusals: why others were, by id.
        untold: those that nobody has heard of yet.
    """

    def __init__(self, client: Client, spec: RunSpec, patience: float) -> None:
        self.client, self.spec, self.patience = client, spec, patience
        self.known: dict[str, Worker] = {}
        self.refusals: dict[str, str] = {}
        self.untold: deque[str] = deque()
        self.looked = 0.0

    def able(self) -> list[Worker]:
        """Those who can take part."""
        return [worker for worker in self.known.values() if worker.kinds]

    def look(self) -> list[Worker]:
        """Sees who came, and gives those who are gone; at most every `LOOK_SECONDS`.

        Raises:
            NoWorkerError: if the scheduler does not answer.
        """
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return []
        there = self._there()
        gone = [self.known.pop(key) for key in self.known.keys() - there.keys()]
        for key in there.keys() - self.refusals.keys():
            address, facts = there[key]
            if key not in self.known:
                gpu = bool(facts["resources"].get("GPU"))
                self.known[key] = Worker(address, key, str(facts["name"]), gpu)
            self._hear(self.known[key])
        self.looked = time.monotonic()
        return gone

    def _there(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Address of each of the scheduler's workers and what it says of it, by their ids.

        A process that is started again at once keeps its name, and may keep its address; its folder
        is another one.
        """
        while self.client.status == "connecting":  # dask tries again, and gives up some time
            time.sleep(LOOK_SECONDS)
        self.check_scheduler()
        identity = self.client.scheduler.identity
        try:
            known = self.client.sync(identity, callback_timeout=ANSWER_SECONDS)["workers"]
        except (OSError, TimeoutError, AttributeError) as error:
            raise NoWorkerError(LOST) from error
        return {
            f"{address} {facts['local_directory']}": (address, facts)
            for address, facts in known.items()
        }

    def check_scheduler(self, error: Exception | None = None) -> None:
        """Raises NoWorkerError, because of `error`, if dask has given the scheduler up."""
        if self.client.status not in ("running", "connecting"):
            raise NoWorkerError(LOST) from error

    def submit(
        self, worker: Worker, function: Callable[..., Any], *arguments: Any, gpu: bool = False
    ) -> Future:
        """A call, of the run and arguments, for one worker alone: who dies of it is known.

        It travels as bytes: a scheduler, or another worker, that cannot import the suite passes
        them on, and where the suite is missing, it is the call that fails and not the worker. The
        lambda travels as its code (as all without a name do).
        """
        return self.client.submit(
            lambda call: pickle.loads(call)(),
            pickle.dumps(partial(function, self.spec, *arguments)),
            key=f"{self.spec.run}/{function.__name__}-{uuid4().hex}",
            workers=[worker.address],
            allow_other_workers=False,
            resources={"GPU": 1} if gpu else None,
            pure=False,
        )

    def _hear(self, worker: Worker) -> None:
        """Asks a worker whether it can take part, and hears what it says."""
        if worker.answer is None:
            worker.answer = self.submit(worker, prepare)
        if worker.kinds or not worker.answer.done():
            return
        try:
            worker.kinds = frozenset(worker.answer.result(timeout=ANSWER_SECONDS))
        except DIED as error:
            self.check_scheduler(error)
            worker.answer = None
        except Exception as error:
            self.refuse(worker, error)

    def refuse(self, worker: Worker, error: Exception) -> None:
        """A worker cannot take part; it is asked for nothing again, and is left running."""
        self.refusals[worker.id] = f"The worker {worker.called} {unfit(error)}"
        self.untold.append(self.refusals[worker.id])
        self.known.pop(worker.id, None)

    def fits(self, worker: Worker, model: Model) -> bool:
        """Whether a worker should be given cells of a model.

        Not if it could not load that, as long as there is another one that may have it.
        """
        others = (
            one
            for one in self.known.values()
            if model not in one.lacking and (not one.kinds or model[1] in one.kinds)
        )
        return model[1] in worker.kinds and (model not in worker.lacking or not any(others))

    def device(self, kind: str) -> str:
        """The kind of device that cells are computed on; waits for a worker that has it.

        Args:
            kind: "cpu", "cuda", "mps", or "auto": CUDA if a worker that is there has it, else CPU.

        Raises:
            NoWorkerError: if none comes.
        """
        start, wanted = time.monotonic(), ("cuda", "cpu") if kind == "auto" else (kind,)

        def had() -> str | None:
            heard = all(worker.kinds for worker in self.known.values())
            if kind == "auto" and not heard and time.monotonic() - start < SETTLED_SECONDS:
                return None  # one of them may have a GPU
            there = {kind for worker in self.able() for kind in worker.kinds}
            return next((one for one in wanted if one in there), None)

        return self.until(had, "is there" if kind == "auto" else f"computes on {kind}")

    def digest(self, model: str) -> tuple[str, dict[str, str]]:
        """A model's digest and what its entry says, by the first worker that has the model.

        Raises:
            UserInputError: if nobody has it, with what each of them said.
            NoWorkerError: if there is nobody to ask.
        """
        answers: dict[str, str] = {}

        def answer() -> tuple[str, dict[str, str]] | None:
            for worker in self.able():
                if worker.id in answers:
                    continue
                future = self.submit(worker, digest_here, model)
                try:
                    found: tuple[str, dict[str, str]] = future.result(timeout=self.patience)
                    return found
                except (UserInputError, *DIED) as error:
                    answers[worker.id] = f"  {worker.called}: {error}"
            if answers and not self.known.keys() - answers.keys():
                lines = "\n".join(answers.values())
                raise UserInputError(f'No worker has the model "{model}":\n{lines}')
            return None

        return self.until(answer, "is there")

    def until(self, found: Callable[[], T | None], what: str) -> T:
        """Waits, as long as patience lasts, until `found` gives something.

        Raises:
            NoWorkerError: if nothing came, or all workers that did were refused.
        """
        deadline = time.monotonic() + self.patience
        while True:
            self.look()
            if self.refusals and not self.known:
                raise NoWorkerError("\n".join(dict.fromkeys(self.refusals.values())))
            answer = found()
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise self.nobody(what)
            time.sleep(0.05)

    def nobody(self, what: str, busy: Collection[Worker] = ()) -> NoWorkerError:
        """There is no worker that does what is wanted, in words; `busy` have a cell of this run."""
        words = []
        for worker in self.known.values():
            kinds = ", ".join(sorted(worker.kinds)) or "no answer yet: it may be busy"
            waits = ", has not begun with its cell: it is busy, or its memory is full"
            words.append(f"{worker.called} ({kinds}{waits if worker in busy else ''})")
        there = ", ".join(words) or "none"
        refused = "".join(f"\n{refusal}" for refusal in self.refusals.values())
        return NoWorkerError(
            f"No worker {what} within {self.patience:g} s (--patience). Workers that are there: "
            f"{there}. Finished cells are stored; the same command goes on.{refused}"
        )
