"""Tasks and methods of a matrix with their settings, and how tables call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args, get_origin, get_type_hints

from bench.matrix.schema import Choice
from methods import METHODS
from methods.method import Method
from tasks.build import build_task, label_of
from tasks.errors import UserInputError
from tasks.fingerprint import fingerprint
from tasks.registry import configure, lookup
from tasks.task import Task


@dataclass(frozen=True)
class NamedTask:
    """A task with its settings, and how it is called in tables."""

    label: str
    name: str
    task: Task
    data: str
    """Digest of what it asks (`tasks.fingerprint`)."""


@dataclass(frozen=True)
class NamedMethod:
    """A method with its settings, and how it is called in tables."""

    label: str
    name: str
    method: Method
    departures: int = 0
    """How many of its settings that are lists have another value than their first."""


def named_task(choice: Choice) -> NamedTask:
    """The task that an entry of a matrix names; raises UserInputError as `build_task`."""
    name, task = build_task(choice.name, choice.settings)
    return NamedTask(label_of(name, task), name, task, fingerprint(task))


def named_methods(choice: Choice) -> list[NamedMethod]:
    """A method once for every combination of the settings that are given as lists.

    Raises:
        UserInputError: for an unknown method or setting, and a list of no values.
    """
    loaded = lookup(METHODS, choice.name, "method").load()
    where = f'method "{choice.name}"'
    hints = get_type_hints(loaded, include_extras=True)
    grid = [
        name
        for name, value in choice.settings.items()
        if isinstance(value, list) and not _takes_a_list(hints.get(name))
    ]
    empty = [name for name in grid if not choice.settings[name]]
    if empty:
        raise UserInputError(
            f'{where}: the setting "{empty[0]}" is a list of no values; a grid needs at least one.'
        )
    found = []
    for one in choice.over(grid):
        method: Method = configure(loaded, one.settings, where)
        departures = sum(one.settings[name] != choice.settings[name][0] for name in grid)
        found.append(NamedMethod(label_of(choice.name, method), choice.name, method, departures))
    return found


def _takes_a_list(annotation: object) -> bool:
    """Whether a list is one value of a setting with this annotation."""
    if get_origin(annotation) in (list, tuple, Sequence):
        return True
    return any(_takes_a_list(argument) for argument in get_args(annotation))


def controls(
    methods: list[NamedMethod], parents: list[NamedMethod], draws: int
) -> list[NamedMethod]:
    """Random, and the scores of every untrained method of `parents` shuffled, `draws` times each.

    Draws that the matrix lists itself are not made twice.
    """
    untrained = [
        method.label
        for method in parents
        if not type(method.method).trained and not type(method.method).control
    ]
    choices = [{"name": "random", "draw": draw} for draw in range(draws)]
    for label in untrained:
        choices += [{"name": "shuffled", "of": label, "draw": draw} for draw in range(draws)]
    found = [named_methods(Choice.model_validate(choice))[0] for choice in choices]
    listed = {(method.label, method.method.number_of_draw) for method in methods}
    return [c for c in found if (c.label, c.method.number_of_draw) not in listed]
