"""The workers of a dask scheduler, as one run knows them: who is there, who is fit, who is lost."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker

from bench.execution.dask_worker import digest_here, prepare
from bench.execution.run_spec import RunSpec, UnfitError, unfit
from bench.matrix.cells import PlannedCell
from tasks.errors import UserInputError

LOOK_SECONDS = 1.0
"""How often the scheduler is asked who is there."""
ANSWER_SECONDS = 60.0
"""A scheduler that does not answer, and a result that does not arrive, for so long is lost."""
SETTLED_SECONDS = 60.0
"""Before what `auto` means is decided, all workers that are there are heard, but not for longer."""
LAST_LINES = 150
"""Of a worker's log: the stacks of a process that was ended are among them."""
LOST = (
    "The connection to the dask scheduler is lost. Finished cells are stored; the same command "
    "goes on."
)
T = TypeVar("T")
Model = tuple[str, str]
"""What a worker has in its memory: a model as tables call it, and the kind of its device."""


def needs(cell: PlannedCell) -> Model:
    """What a worker has to have loaded for a cell."""
    return cell.model_label, cell.settings["model"]["device"]


class NoWorkerError(UserInputError):
    """There is nobody who computes, or not any more."""


class NotThereError(RuntimeError):
    """A worker has not even begun with what it was asked, and another one can be asked."""


class LostError(RuntimeError):
    """A worker was lost with what it was asked."""


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
    has_gpu_resource: bool
    answer: Future | None = None
    kinds: frozenset[str] = frozenset()
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
            address, facts = there[key]
            if key not in self.known:
                gpu = bool(facts["resources"].get("GPU"))
                self.known[key] = Worker(address, key, str(facts["name"]), gpu)
            self.known[key].running = facts["status"] == "running"
        for worker in list(self.known.values()):
            self._hear(worker)
        if self.refusals and not self.known and not self.fit:
            raise NoWorkerError("\n".join(dict.fromkeys(self.refusals.values())))
        self.looked = time.monotonic()

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
        them on, and where the suite is missing, it is the call that fails and not the worker.
        """
        return self.client.submit(
            pickle.loads,
            pickle.dumps(_Call(function, (self.spec, *arguments))),
            key=f"{self.spec.run}/{function.__name__}/{next(self.numbers)}",
            workers=[worker.address],
            allow_other_workers=False,
            resources={"GPU": 1} if gpu else None,
            pure=False,
        )

    def result(self, worker: Worker, future: Future) -> Any:
        """What a worker made of a task.

        Raises:
            NotThereError: if it turns out to be unfit for the run.
            LostError: if it was lost.
            Exception: what the task raised.
        """
        try:
            return future.result(timeout=ANSWER_SECONDS)
        except (UnfitError, ImportError) as error:
            self._refuse(worker, error)
            raise NotThereError(str(error)) from error
        except (KilledWorker, CancelledError, TimeoutError) as error:
            self.check_scheduler(error)
            gone = "dask gave it up" if isinstance(error, CancelledError) else "it died"
            raise LostError(gone) from error

    def _hear(self, worker: Worker) -> None:
        """Asks a worker whether it can take part, and hears what it says."""
        if worker.answer is None:
            worker.answer = self.submit(worker, prepare)
        if worker.kinds or worker.answer.status == "pending":
            return
        try:
            worker.kinds = frozenset(self.result(worker, worker.answer))
            self.fit.add(worker.id)
        except NotThereError:
            return
        except LostError:
            worker.answer = None
        except Exception as error:
            self._refuse(worker, error)

    def _refuse(self, worker: Worker, error: Exception) -> None:
        """A worker cannot take part; it is asked for nothing again, and is left running."""
        self.refusals[worker.id] = f"The worker {worker.called} {unfit(error)}"
        self.known.pop(worker.id, None)
        self.fit.discard(worker.id)

    def fits(self, worker: Worker, model: Model) -> bool:
        """Whether a worker should be given cells of a model."""
        return model[1] in worker.kinds and not self.lacks(worker, model)

    def lacks(self, worker: Worker, model: Model) -> bool:
        """Whether a worker could not load a model that another one may have."""
        return model in worker.lacking and any(w.may_load(model) for w in self.known.values())

    def device(self, kind: str) -> str:
        """The kind of device that cells are computed on; waits for a worker that has it.

        Args:
            kind: "cpu", "cuda", "mps", or "auto": CUDA if a worker that is there has it, else CPU.

        Raises:
            NoWorkerError: if none comes.
        """
        decided = time.monotonic() + SETTLED_SECONDS

        def had() -> str | None:
            there = {kind for worker in self.able() for kind in worker.kinds}
            if kind != "auto":
                return kind if kind in there else None
            if time.monotonic() < decided and not all(one.kinds for one in self.known.values()):
                return None  # one of them may have a GPU
            return next((one for one in ("cuda", "cpu") if one in there), None)

        return self.until(had, "is there" if kind == "auto" else f"computes on {kind}")

    def digest(self, model: str) -> tuple[str, dict[str, str]]:
        """A model's digest and what its entry says, by the first worker that has the model.

        Raises:
            UserInputError: if nobody has it, with what each of them said.
            NoWorkerError: if there is nobody to ask, or who is asked does not answer.
        """
        said: dict[str, str] = {}

        def not_asked() -> Worker | None:
            if said and not self.known.keys() - said.keys():
                lines = "\n".join(said.values())
                raise UserInputError(f'No worker has the model "{model}":\n{lines}')
            return next((worker for worker in self.able() if worker.id not in said), None)

        while True:
            worker = self.until(not_asked, "is there")
            future = self.submit(worker, digest_here, model)
            heard = partial(_heard, worker, future)
            self.until(heard, f'says what the model "{model}" is')
            try:
                found: tuple[str, dict[str, str]] = self.result(worker, future)
                return found
            except NotThereError:
                continue
            except (UserInputError, LostError) as error:
                said[worker.id] = f"  {worker.called}: {error}"

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


def _heard(worker: Worker, future: Future) -> bool | None:
    """True once a worker has answered, or never will."""
    if not worker.there:
        future.cancel(force=True)
    return True if future.status != "pending" else None


def log_file(logs: Path, worker: Worker) -> Path:
    """A file for what a worker says; one that is called by its address has that as its name."""
    logs.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._]+", "-", worker.name).strip("-.") or "worker"
    return logs / f"{name}.log"


def last_lines(file: Path, worker: Worker) -> str:
    """The last lines of a worker's log, for the log of a cell that failed with it."""
    lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
    return "\n".join([f"The last lines of {worker.name}:", *lines[-LAST_LINES:]])
