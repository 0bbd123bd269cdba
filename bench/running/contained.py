"""Code that is not the suite's, and what it may not do to the process that runs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import message_of


class EscapedError(RuntimeError):
    """A method, task or model raised what is no Exception: it asked for the process to end."""


@contextmanager
def contained() -> Iterator[None]:
    """Around code that is not the suite's: what it raises is an Exception, `sys.exit` too.

    The user's interrupt goes through; it comes in the main thread.

    Raises:
        EscapedError: for everything else that is no Exception.
    """
    try:
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
