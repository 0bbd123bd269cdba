"""A time limit on what one thread does, in any thread and on any system."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


class CellTimeoutError(RuntimeError):
    """A cell took longer than `--cell-timeout` allows."""

    flag = "--cell-timeout"


class LoadTimeoutError(RuntimeError):
    """Loading a model, or preparing a task for it, took longer than `--load-timeout` allows."""

    flag = "--load-timeout"


class EscapedError(RuntimeError):
    """A method, task or model raised what is no Exception: it asked for the process to end."""


class _Expired(BaseException):
    """Raised in the thread whose time is up; no `except Exception` on the way keeps it."""


DELIVERY_SECONDS = 1.0
"""An interruption that was sent at the last moment arrives within this time or never."""


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
    timer = threading.Timer(seconds, watch.expire)
    timer.daemon = True
    try:
        try:
            timer.start()
            return work()
        except _Expired:
            watch.delivered = True
            raise
        finally:
            timer.cancel()
            watch.end()
    except _Expired as expired:  # its trace says where the work was
        raise kind(
            f"took longer than the limit of {seconds:g} s; give more with {kind.flag}"
        ) from expired


@contextmanager
def contained() -> Iterator[None]:
    """Around code that is not the suite's: what it raises is an Exception, `sys.exit` too.

    The user's interrupt, the closing of a generator and the end of a time limit go through.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit, _Expired):
        raise
    except BaseException as error:
        raise EscapedError(
            f"it raised {type(error).__name__}({error}), which would end the whole run; "
            "a method, task or model that cannot go on raises an Exception"
        ) from error


class _Watch:
    """Interrupts a thread at most once, and never after `end`."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.lock = threading.Lock()
        self.over = self.sent = self.delivered = False

    def expire(self) -> None:
        with self.lock:
            if not self.over:
                self.sent = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread), ctypes.py_object(_Expired)
                )

    def end(self) -> None:
        """No interruption from here on; one that is on its way arrives in here."""
        with self.lock:
            self.over = True
        if self.sent and not self.delivered:
            deadline = time.monotonic() + DELIVERY_SECONDS
            while time.monotonic() < deadline:
                time.sleep(0.001)
