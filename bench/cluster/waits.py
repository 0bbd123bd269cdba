"""Every wait on workers, each with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker

from bench.cluster.local_workers import NoWorkerError
from bench.cluster.orders import NotHiredError, WorkerError
from bench.cluster.worker import Worker
from bench.cluster.workers import LOOK_SECONDS, ClusterLostError, Workers
from tasks.errors import UserInputError

ASKED_SECONDS = 3600.0
"""A question to a worker may need a model that is fetched first."""
LOST_WORKERS = 3
"""A cell, or a question, that so many workers were lost with is not tried again."""
STACKS_SECONDS = 5.0

T = TypeVar("T")


def until(workers: Workers, found: Callable[[], T | None], what: str) -> T:
    """Waits, as long as patience lasts, until `found` gives something.

    Args:
        workers: who is there.
        found: is asked again and again.
        what: is waited for, in words.

    Raises:
        NoWorkerError: if nothing came; says what the workers that are there have said.
    """
    deadline = time.monotonic() + workers.patience
    while True:
        workers.look()
        answer = found()
        if answer is not None:
            return answer
        workers.check_refusals()
        if time.monotonic() > deadline:
            raise nobody(workers, what)
        time.sleep(0.05)


def nobody(workers: Workers, what: str) -> ClusterLostError:
    """There is no worker that does what is wanted, in words."""
    there = [_in_words(worker) for worker in workers.known.values()]
    tails = (workers.logs.tail(worker.name) for worker in workers.known.values())
    said = "".join(f"\n{one}" for one in (*workers.refusals.values(), *tails) if one)
    return ClusterLostError(
        f"No worker {what} within {workers.patience:g} s (--patience). Workers that are there: "
        f"{', '.join(there) or 'none'}. Finished cells are stored; the same command goes on.{said}"
    )


def _in_words(worker: Worker) -> str:
    kinds = ", ".join(sorted(worker.kinds)) or "no answer yet: it may be busy"
    paused = "" if worker.running else ", paused by dask: its memory is full"
    busy = ", has not begun with its cell: it is busy" if worker.busy else ""
    return f"{worker.called} ({kinds}{paused}{busy})"


def ask(workers: Workers, function: Callable[..., T], run: str, model: str) -> T:
    """What a worker answers about a model; another one is asked where it is lost, or cannot say.

    Raises:
        NoWorkerError: if there is none, or none answers.
        UserInputError: if nobody has the model, with what each of them said.
        Exception: what else the function raised.
    """
    lost, said = 0, dict[str, str]()
    while lost < LOST_WORKERS:
        worker = _next_asked(workers, said, model)
        future = workers.submit(worker.address, function, run, model)
        try:
            found: T | None = answer(workers, worker, future, ASKED_SECONDS)
            if found is not None:
                return found
            lost += 1
        except (CancelledError, KilledWorker):
            lost += 1
        except NoWorkerError:
            raise
        except WorkerError as error:
            lost += isinstance(error, NotHiredError)
            workers.part_with(worker, error)
        except UserInputError as error:
            if workers.local is not None:
                raise  # all of them are of this machine
            said[worker.id] = f"{worker.called}: {error}"
    raise ClusterLostError(
        f"{LOST_WORKERS} workers in turn were lost, or did not answer for {ASKED_SECONDS / 60:g} "
        f"min, when they were asked for {model}."
    )


def _next_asked(workers: Workers, said: Mapping[str, str], model: str) -> Worker:
    """A worker that has not yet said that it lacks a model; see `ask`."""

    def unasked() -> Worker | None:
        able = (worker for worker in workers.able() if worker.id not in said)
        found = next(able, None)
        if found is None and said and not workers.answering:
            raise UserInputError(_lacking(said, model))
        return found

    try:
        return until(workers, unasked, "is there")
    except NoWorkerError as error:
        if said:
            raise UserInputError(_lacking(said, model)) from error
        raise


def _lacking(said: Mapping[str, str], model: str) -> str:
    lines = "\n".join(f"  {text}" for text in said.values())
    return f'No worker has the model "{model}":\n{lines}'


def answer(workers: Workers, worker: Worker, future: Future, seconds: float) -> Any:
    """What comes back of a task; None if its worker is gone or it takes too long.

    Raises:
        Exception: what the task raised.
    """
    deadline = time.monotonic() + seconds
    while worker.there and time.monotonic() < deadline:
        try:
            return future.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            if future.status == "error":  # the task's own
                raise
            workers.look()
    future.cancel()
    return None


def stacks(client: Client, future: Future) -> str:
    """Where a worker is in a task; "" if it does not even say that."""
    found: list[str] = []

    def look() -> None:
        with suppress(Exception):
            for of_worker in client.call_stack(keys=[future.key]).values():
                found.extend("".join(frames) for frames in of_worker.values())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(STACKS_SECONDS)
    return "The worker was here:\n" + found[0] if found else ""
