"""A plug-in's method, task or model: what it needs to be usable, and whose is broken, and where.

What it lacks is looked at whenever one is loaded; `python -m bench check NAME` tries what it does.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from bench.models.hub import HUB_ID
from bench.models.load import ModelEntry
from tasks.errors import UserInputError, message_of, no_exit
from tasks.registry import Entry

DATACLASS = "it has to be a dataclass: @dataclass(frozen=True)"


def lacks_of_method(kind: type[Any]) -> Iterator[str]:
    """What keeps a class from being a method, in words."""
    from methods.method import Method

    if not issubclass(kind, Method):
        yield "it has to be a subclass of methods.method.Method"
    for name in sorted(getattr(kind, "__abstractmethods__", ())):
        yield f"it has no {name}()"
    if not is_dataclass(kind):
        yield DATACLASS


def lacks_of_task(kind: type[Any]) -> Iterator[str]:
    """What keeps a class from being a task, in words."""
    for verb in ("entities", "probe", "candidates"):
        if not callable(getattr(kind, verb, None)):
            yield f"it has no method {verb}()"
    if not isinstance(inspect.getattr_static(kind, "name", None), str):
        yield 'it has to say what it is called: name = "..."'
    if not is_dataclass(kind):
        yield DATACLASS


def lacks_of_model(entry: object) -> Iterator[str]:
    """What keeps something from being a model's entry, in words."""
    if not isinstance(entry, ModelEntry):
        yield f"it has to be a bench.models.load.ModelEntry, not {type(entry).__name__}"
        return
    if not isinstance(entry.summary, str) or not isinstance(entry.bos, str | None):
        yield "summary has to be a string, bos one or None"
    if not isinstance(entry.folder, Path | None):
        yield "folder has to be a pathlib.Path or None"
    if entry.hub_id is None and entry.folder is None:
        yield "it has neither a hub_id nor a folder"
    if entry.hub_id is not None and not HUB_ID.fullmatch(str(entry.hub_id)):
        yield f'hub_id has to be "owner/name", not {entry.hub_id!r}'


LACKS: Mapping[str, Callable[[type[Any]], Iterator[str]]] = {
    "method": lacks_of_method,
    "task": lacks_of_task,
}


class PluginError(UserInputError):
    """A plug-in clashes with another name or is broken; the message names its package or file."""


@dataclass(frozen=True)
class PluginEntry(Entry):
    """A method or task of somebody else's."""

    kind: str = "method"
    """A key of `LACKS`."""
    name: str = ""
    """Its own in the table."""

    def load(self) -> type[Any]:
        """Import the module and return the class.

        Raises:
            PluginError: if that fails, for whatever reason, and for a class that cannot be what
                the table says it is.
        """
        try:
            with no_exit():
                found = super().load()
        except Exception as error:
            raise broken(self.origin, self.target, error) from error
        require(self.origin, self.kind, self.name, found, self._lacks(found))
        return found

    def _lacks(self, found: object) -> Iterable[str]:
        if not isinstance(found, type):
            return [f"{self.target} is not a class"]
        return LACKS[self.kind](found)


def require(origin: str, kind: str, name: str, found: object, lacks: Iterable[str]) -> None:
    """Raises PluginError, which names all of them, unless nothing is lacking."""
    missing = "; ".join(lacks)
    if missing:
        raise PluginError(
            f'{origin} adds the {kind} "{name}"{_defined(found)}, which cannot be used: {missing}. '
            f"Mend it or leave it out; `python -m bench check {name}` tries it."
        )


def broken(origin: str, target: str, error: Exception) -> PluginError:
    """What is said of a plug-in that cannot be loaded.

    Args:
        origin: the package or file, in words.
        target: a file's path, or `"package.module:Name"`.
        error: what was raised.
    """
    place = _place(target, error)
    at = f"{target}, {place}" if place and place != target else target
    return PluginError(
        f"{origin} has a broken plug-in ({at}): {type(error).__name__}: {message_of(error)}. "
        "Mend it or leave it out."
    )


def _defined(found: object) -> str:
    """Where a class stands, as far as that is known."""
    if not isinstance(found, type):
        return ""
    try:
        return f" ({inspect.getfile(found)} line {inspect.getsourcelines(found)[1]})"
    except (OSError, TypeError):  # a file of another machine's
        return f" ({found.__qualname__})"


def _place(target: str, error: BaseException) -> str:
    """The plug-in's own line that an error comes from, else its file; "" if there is none."""
    own = _own_files(target)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SyntaxError) and _is_in(cause.filename, own):
            return f"{cause.filename} line {cause.lineno}"
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if _is_in(frame.filename, own):
                return f"{frame.filename} line {frame.lineno}"
        cause = cause.__cause__
    module = sys.modules.get(target.partition(":")[0])
    return str(getattr(module, "__file__", None) or "")


def _own_files(target: str) -> list[str]:
    """A plug-in's file, or its package's folder."""
    if os.sep in target:
        return [target]
    try:
        spec = importlib.util.find_spec(target.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]


def _is_in(file: str | None, own: list[str]) -> bool:
    real = os.path.realpath(file or "")
    return any(
        real == root or real.startswith(root + os.sep) for root in map(os.path.realpath, own)
    )
