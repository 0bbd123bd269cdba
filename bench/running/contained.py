"""Code that is not the suite's, and what it may not do to the process that runs it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from tasks.errors import message_of


class EscapedError(RuntimeError):
    """A method, task or model raised what is no Exception: it asked for the process to end."""


@contextmanager
def contained() -> Iterator[None]:
    """Around code that is not the suite's: what it raises is an Exception, `sys.exit` too.

    The user's interrupt goes through; it comes in the main thread. The working directory, and where
    the process writes to, are as before when the block ends.

    Raises:
        EscapedError: for everything else that is no Exception.
    """
    try:
        with _same_place(), _same_streams():
            yield
    except Exception:
        raise
    except BaseException as error:
        in_main = threading.current_thread() is threading.main_thread()
        if isinstance(error, KeyboardInterrupt) and in_main:
            raise
        raise EscapedError(
            f"it raised {type(error).__name__}({message_of(error)}), which would end the whole "
            "run; a method, task or model that cannot go on raises an Exception"
        ) from error


@contextmanager
def _same_place() -> Iterator[None]:
    """Paths that are given relative to the working directory mean the same after the block."""
    place = None
    with suppress(OSError):  # it was removed
        place = os.getcwd()
    try:
        yield
    finally:
        if place is not None:
            with suppress(OSError):
                os.chdir(place)


@contextmanager
def _same_streams() -> Iterator[None]:
    """Standard output and error are the same and open after the block."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_lent, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def _lent(stream: TextIO) -> Any:
    """A stream that writes to another one, and whose end is not the other's; None stays None."""
    return None if stream is None else _Lent(stream)


class _Lent:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """It stays open."""
