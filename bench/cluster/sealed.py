"""Calls as bytes, which are opened where they are carried out and nowhere on the way.

dask reads a task at the scheduler, and at the worker before it runs it: a worker that cannot
import what the task is made of is lost, with all that others have on it. Of a sealed call both see
bytes and a function of Python's own. Where the suite is missing, it is the call that fails.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

opened = pickle.loads
"""Runs on a worker: carries a sealed call out, and gives what the function gives."""


class _Call:
    """Is pickled as what it calls."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def sealed(function: Callable[..., Any], *arguments: Any) -> bytes:
    """A call of a module's function, to be carried out by `opened`."""
    return pickle.dumps(_Call(function, arguments), protocol=pickle.HIGHEST_PROTOCOL)
