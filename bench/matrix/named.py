"""Tasks and methods of a matrix with their settings, and how tables call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, get_args, get_origin, get_type_hints

from bench.matrix.fields import Choice
from bench.matrix.schema import Controls, ModelChoice
from methods import METHODS
from methods.method import Method
from tasks.build import build_task, label_of, labels_of
from tasks.errors import UserInputError
from tasks.fingerprint import fingerprint
from tasks.registry import configure, lookup
from tasks.task import Task, asked_of


@dataclass(frozen=True)
class NamedTask:
    """A task with its settings, and how it is called in tables."""

    label: str
    name: str
    task: Task
    data: str
    """Digest of what it asks (`tasks.fingerprint`)."""

    def asked_of(self, model: str) -> NamedTask | None:
        """The task as a model is asked; None where it has nothing to ask of that one."""
        task = asked_of(self.task, model)
        if task is self.task:
            return self
        return replace(self, task=task, data=fingerprint(task)) if task else None


@dataclass(frozen=True)
class NamedMethod:
    """A method with its settings, and how it is called in tables."""

    label: str
    name: str
    method: Method
    departures: int = 0
    """How many of its settings that are lists have another value than their first."""


def named_tasks(choices: Sequence[Choice]) -> list[NamedTask]:
    """The tasks that entries of a matrix name; raises UserInputError as `build_task`."""
    built = [build_task(choice.name, choice.settings) for choice in choices]
    return [
        NamedTask(label, name, task, fingerprint(task))
        for label, (name, task) in zip(labels_of(built), built, strict=True)
    ]


def model_labels(models: Sequence[ModelChoice]) -> list[str]:
    """How the models of a matrix are called in tables.

    By name; of several of one name, those that are run otherwise than by default have in brackets
    how: `gpt2` and `gpt2[dtype=bfloat16]`. What their weights have to be is no part of it.
    """
    number = Counter(model.name for model in models)
    labels = []
    for model in models:
        shown = [
            f"{key}={getattr(model, key)}"
            for key, field in ModelChoice.model_fields.items()
            if key not in ("name", "digest") and getattr(model, key) != field.default
        ]
        several = number[model.name] > 1
        labels.append(f"{model.name}[{','.join(shown)}]" if several and shown else model.name)
    return labels


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
        every = _one_departs(lengths) if alone else product(*map(range, lengths))
        return [self._method(places) for places in every]

    def _method(self, places: Sequence[int]) -> NamedMethod:
        given = self.choice.settings
        values = {name: given[name][at] for name, at in zip(self.lists, places, strict=True)}
        where = f'method "{self.choice.name}"'
        method: Method = configure(self.kind, {**given, **values}, where)
        departures = sum(values[name] != given[name][0] for name in self.lists)
        return NamedMethod(label_of(self.choice.name, method), self.choice.name, method, departures)


def _one_departs(lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The places in lists of these lengths with at most one that is not 0, in the same order."""
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
