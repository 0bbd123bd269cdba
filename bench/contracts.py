"""What a method, a task or a model of somebody else's needs before it can be used at all.

This is looked at whenever one is loaded, and takes no time; `python -m bench check NAME` tries what
it does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from bench.models.hub import HUB_ID
from bench.models.load import ModelEntry

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
