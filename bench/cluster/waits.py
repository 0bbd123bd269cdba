"""Every wait on workers, each with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker

from bench.cluster.workers import LOOK_SECONDS, ClusterLostError, Worker, Workers

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
    return f"{worker.address} ({kinds}{paused})"


def ask(workers: Workers, function: Callable[..., T], *arguments: Any) -> T:
    """What a worker answers; another one is asked where it is lost.

    Raises:
        NoWorkerError: if there is none, or none answers.
        Exception: what the function raised.
    """
    for _ in range(LOST_WORKERS):
        worker = until(workers, lambda: next(iter(workers.able()), None), "is there")
        future = workers.submit(worker.address, function, *arguments)
        with suppress(CancelledError, KilledWorker):
            found: T | None = answer(workers, worker, future, ASKED_SECONDS)
            if found is not None:
                return found
    raise ClusterLostError(
        f"{LOST_WORKERS} workers in turn were lost, or did not answer for {ASKED_SECONDS / 60:g} "
        f"min, when they were asked for {arguments[-1]}."
    )


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
