"""A time limit on what one thread does, in any thread and on any system."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class CellTimeoutError(RuntimeError):
    """A cell took longer than `--cell-timeout` allows."""

    flag = "--cell-timeout"


class LoadTimeoutError(RuntimeError):
    """Loading a model, or preparing a task for it, took longer than `--load-timeout` allows."""

    flag = "--load-timeout"


def in_force(cell_timeout: float | None, load_timeout: float | None) -> dict[str, float]:
    """The limits that there are, as the provenance of a failed cell has them."""
    limits = {"cell_timeout": cell_timeout, "load_timeout": load_timeout}
    return {name: seconds for name, seconds in limits.items() if seconds is not None}


class _Expired(BaseException):
    """Raised in the thread whose time is up; no `except Exception` on the way keeps it."""


def limited(
    work: Callable[[], Result],
    seconds: float | None,
    kind: type[CellTimeoutError | LoadTimeoutError] = CellTimeoutError,
) -> Result:
    """What `work()` gives; an error of `kind` once it took `seconds`. None sets no limit.

    It is interrupted between two steps of Python: a single call into a library that does not
    return is not ended by this (worker processes are, see `bench.cluster.shift`). A function and no
    context manager: an interruption may arrive at every step, and none may be outside the `try`.
    """
    if seconds is None:
        return work()
    watch = _Watch(threading.get_ident())
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), watch.expire)
    timer.daemon = True
    over = f"took longer than the limit of {seconds:g} s; give more with {kind.flag}"
    try:
        try:
            timer.start()
            result = work()
        finally:
            timer.cancel()
            watch.end()
    except BaseException as error:  # its trace says where the work was
        if isinstance(error, KeyboardInterrupt) or not watch.sent:
            raise
        raise kind(over) from error
    if watch.sent:  # the work went on all the same
        raise kind(over)
    return result


ARRIVAL_STEPS = 100
"""An interruption that was sent arrives at the next step, or has arrived before."""


class _Watch:
    """Interrupts a thread at most once, and never after `end`.

    Attributes:
        sent: the time was over before the work was; it may have kept the interruption to itself.
    """

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.lock = threading.Lock()
        self.over = self.sent = False

    def expire(self) -> None:
        with self.lock:
            if not self.over:
                self.sent = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread), ctypes.py_object(_Expired)
                )

    def end(self) -> None:
        """No interruption from here on; one that is on its way arrives in here.

        It is not taken back by setting none: that leaves Python 3.11 looking for one at every step,
        and under a tracer (coverage, a debugger) it never gets past the next call.
        """
        with self.lock:
            self.over = True
        if self.sent:
            try:
                for _ in range(ARRIVAL_STEPS):
                    _step()
            except _Expired:
                pass


def _step() -> None:
    """At the start of a function Python looks for what was sent to its thread."""
