"""Tasks and methods of a matrix with their settings, and how tables call them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, get_args, get_origin, get_type_hints

from bench.matrix.schema import Choice, Controls
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


@dataclass(frozen=True)
class MethodGrid:
    """An entry of a matrix's methods: one method for every combination of its settings' lists."""

    choice: Choice
    kind: type[Method]
    lists: tuple[str, ...]
    """The settings that are given as lists."""

    @staticmethod
    def of(choice: Choice) -> MethodGrid:
        """The grid of an entry, nothing of which is built yet.

        Raises:
            UserInputError: for an unknown method, and a list of no values.
        """
        kind = lookup(METHODS, choice.name, "method").load()
        hints = get_type_hints(kind, include_extras=True)
        lists = [
            name
            for name, value in choice.settings.items()
            if isinstance(value, list) and not _takes_a_list(hints.get(name))
        ]
        empty = [name for name in lists if not choice.settings[name]]
        if empty:
            raise UserInputError(
                f'method "{choice.name}": the setting "{empty[0]}" is a list of no values; a grid '
                "needs at least one."
            )
        return MethodGrid(choice, kind, tuple(lists))

    def is_shuffled(self, number: Controls) -> bool:
        """Whether a control shuffles its scores: those of a method that is no control itself."""
        return not self.kind.control and (number.shuffle_trained or not self.kind.trained)

    def size(self, alone: bool) -> int:
        """How many methods `methods` gives."""
        lengths = [len(self.choice.settings[name]) for name in self.lists]
        return 1 + sum(length - 1 for length in lengths) if alone else prod(lengths)

    def methods(self, alone: bool) -> list[NamedMethod]:
        """The methods, that of the first value of every list first.

        Args:
            alone: only those with at most one value that is not the first of its list.

        Raises:
            UserInputError: for an unknown setting, and a value that it cannot have.
        """
        lengths = [len(self.choice.settings[name]) for name in self.lists]
        return [self._method(places) for places in (_alone if alone else _all)(lengths)]

    def _method(self, places: Sequence[int]) -> NamedMethod:
        given = self.choice.settings
        values = {name: given[name][at] for name, at in zip(self.lists, places, strict=True)}
        where = f'method "{self.choice.name}"'
        method: Method = configure(self.kind, {**given, **values}, where)
        departures = sum(values[name] != given[name][0] for name in self.lists)
        return NamedMethod(label_of(self.choice.name, method), self.choice.name, method, departures)


def _all(lengths: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """The places of all combinations in lists of these lengths."""
    return product(*map(range, lengths))


def _alone(lengths: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """Those with at most one place that is not 0, in the same order."""
    first = (0,) * len(lengths)
    yield first
    for which in reversed(range(len(lengths))):
        for at in range(1, lengths[which]):
            yield (*first[:which], at, *first[which + 1 :])


def _takes_a_list(annotation: object) -> bool:
    """Whether a list is one value of a setting with this annotation."""
    if get_origin(annotation) in (list, tuple, Sequence):
        return True
    return any(_takes_a_list(argument) for argument in get_args(annotation))


def controls(
    methods: list[NamedMethod], shuffled: Sequence[NamedMethod], number: Controls
) -> list[NamedMethod]:
    """Draws of Random, and of the scores of every method of `shuffled` at random places.

    Draws that the matrix lists itself, in `methods`, are not made twice.
    """
    kinds = [(Choice(name="random"), number.draws)]
    for one in shuffled:
        kind = Choice.model_validate({"name": "shuffled", "of": one.label})
        kinds.append((kind, number.per_method))
    listed = {(method.label, method.method.number_of_draw) for method in methods}
    found = []
    for kind, draws in kinds:
        (first,) = MethodGrid.of(kind).methods(alone=False)
        for draw in range(draws):
            if (first.label, draw) not in listed:
                method: Any = first.method
                found.append(replace(first, method=replace(method, draw=draw)))
    return found


def n_controls(shuffled: int, number: Controls) -> int:
    """How many methods `controls` gives at most."""
    return number.draws + shuffled * number.per_method
