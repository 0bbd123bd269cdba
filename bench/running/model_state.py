"""A model as it was found: hooks, weights, modes, settings and code, named where they differ."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.running.weights import Weights
from methods.core.subject import SubjectModel


class Change(NamedTuple):
    """One thing that is otherwise than it was.

    Attributes:
        what: the kind of thing, in the plural.
        where: the name of the module, weight or setting.
    """

    what: str
    where: str


KINDS: Mapping[str, str] = {
    "_forward_hooks": "hooks",
    "_forward_pre_hooks": "hooks",
    "_backward_hooks": "hooks",
    "_backward_pre_hooks": "hooks",
    "fwd_hooks": "hooks",
    "bwd_hooks": "hooks",
    "training": "train mode",
    "_modules": "modules",
    "_parameters": "weights",
    "_buffers": "weights",
}
"""Attributes of a module, and what is changed where they are."""
BOOKKEEPING = frozenset(
    {"_is_full_backward_hook", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"}
)
"""What torch writes beside a hook and leaves when that is removed; it changes nothing."""
COUNTED = frozenset({"rows_per_forward", "passes", "goes_on_from_a_cache"})
"""What a SubjectModel finds out or counts on the way."""
PLAIN = (bool, int, float, complex, str, bytes, type(None), enum.Enum, torch.dtype, torch.device)
ABSENT = object()
"""The value of an attribute that is not there."""
DEPTH = 4
"""How deep lists and dictionaries are looked into."""


class ModelState:
    """A subject model, and what is around it, as they were found.

    At its first forward the bridge adds hooks of its own, and some models keep what a forward gave.
    So two forwards come first, and what differs between them is left out of the comparison.
    """

    def __init__(self, subject: SubjectModel) -> None:
        counted = subject.passes.forward
        _run(subject, 1, 2)
        self.owners = list(_owners(subject))
        before = self._attributes()
        _run(subject, 2, 3)
        subject.passes.forward = counted
        self.found = self._attributes()
        self.ignored = {
            (at, key)
            for at, attributes in enumerate(self.found)
            for key, value in attributes.items()
            if not _same(before[at].get(key, ABSENT), value)
        }
        self.weights = Weights(self._tensors())
        self.code = Code(type(owner) for _, owner in self.owners if isinstance(owner, nn.Module))

    def _attributes(self) -> list[dict[str, Any]]:
        return [_attributes(owner) for _, owner in self.owners]

    def _tensors(self) -> list[tuple[str, Tensor]]:
        """Every tensor that the owners hold, once, by name."""
        tensors: dict[int, tuple[str, Tensor]] = {}

        def look(value: Any, name: str) -> None:
            if isinstance(value, Tensor):
                tensors.setdefault(id(value), (name, value))
            elif isinstance(value, tuple):
                for item in value:
                    look(item, name)

        for at, (name, owner) in enumerate(self.owners):
            if isinstance(owner, nn.Module):
                for key, tensor in {**owner._parameters, **owner._buffers}.items():
                    look(tensor, f"{name}.{key}")
            for key, value in self.found[at].items():
                if (at, key) not in self.ignored:
                    look(value, f"{name}.{key}")
        return list(tensors.values())

    def changes(self) -> list[Change]:
        """What is otherwise than it was; nothing is named twice."""
        found = [
            Change(what, where) for what, names in self.weights.changes().items() for where in names
        ]
        for at, (name, owner) in enumerate(self.owners):
            before, after = self.found[at], _attributes(owner)
            for key in {**before, **after}:
                worked_out_once = isinstance(getattr(type(owner), key, None), cached_property)
                if (key not in before and worked_out_once) or (at, key) in self.ignored:
                    continue
                if not _same(before.get(key, ABSENT), after.get(key, ABSENT)):
                    found.append(_change(owner, name, key))
        return list(dict.fromkeys([*found, *self.code.changes()]))

    def was_written_to(self) -> bool:
        """Whether torch wrote to a weight, be it the numbers that were there before.

        The model's numbers are right then, but layers with packed weights (`bench.models.packed`)
        are computed without them from there on, which rounds in another way.
        """
        return self.weights.was_written_to()


class Code:
    """The functions of the model's classes and of the Python modules they come from."""

    def __init__(self, kinds: Iterable[type]) -> None:
        classes = {base for kind in kinds for base in kind.__mro__} - {object}
        files = {one.__module__ for one in classes}
        places: list[type | ModuleType] = [torch, torch.nn.functional]
        places += sorted(classes, key=lambda one: (one.__module__, one.__qualname__))
        places += [sys.modules[name] for name in sorted(files) if name in sys.modules]
        self.found = [(place, _functions(place)) for place in places]

    def changes(self) -> list[Change]:
        """Functions that were put in the place of others."""
        return [
            Change("functions", f"{place.__name__}.{name}")
            for place, functions in self.found
            for name, function in functions.items()
            if vars(place).get(name) is not function
        ]

    def restore(self) -> None:
        """Puts the functions back that were there: a model that is loaded anew would not."""
        for place, functions in self.found:
            for name, function in functions.items():
                if vars(place).get(name) is not function:
                    setattr(place, name, function)


def _functions(place: type | ModuleType) -> dict[str, Any]:
    kinds = (FunctionType, BuiltinFunctionType, staticmethod, classmethod, property)
    return {name: value for name, value in vars(place).items() if isinstance(value, kinds)}


def _run(subject: SubjectModel, rows: int, positions: int) -> None:
    """A forward on the first tokens of the vocabulary."""
    tokens = torch.arange(rows * positions, device=subject.device).view(rows, positions)
    with torch.inference_mode(False), torch.no_grad():
        subject.logits(tokens)


def _owners(subject: SubjectModel) -> Iterator[tuple[str, Any]]:
    """Everything with attributes that decide what the model computes, once, by a name."""
    bridge = subject.bridge
    yield "the SubjectModel", subject
    yield "bridge.cfg", bridge.cfg
    known = {id(subject), id(bridge.cfg)}
    for prefix, root in (("bridge", bridge), ("original_model", bridge.original_model)):
        for name, module in root.named_modules():
            # A part of the bridge and what it is a bridge to are one thing to whoever reads this.
            called = ".".join(part for part in name.split(".") if part != "_original_component")
            called = called or prefix
            for label, owner in (
                (called, module),
                (f"{called}.config", vars(module).get("config")),
                (f"{called}.cfg", vars(module).get("cfg")),
            ):
                if id(owner) not in known and hasattr(owner, "__dict__"):
                    known.add(id(owner))
                    yield label, owner


def _attributes(owner: Any) -> dict[str, Any]:
    ignored = COUNTED if isinstance(owner, SubjectModel) else BOOKKEEPING
    return {name: _frozen(value) for name, value in vars(owner).items() if name not in ignored}


def _frozen(value: Any, depth: int = DEPTH) -> Any:
    """The value, or what a container holds at this moment."""
    if not isinstance(value, dict | list | tuple | set) or depth == 0:
        return value
    items = value.items() if isinstance(value, dict) else value
    return tuple([_frozen(item, depth - 1) for item in items])


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, PLAIN) and bool(one == other)


def _change(owner: Any, name: str, key: str) -> Change:
    if key in KINDS:
        return Change(KINDS[key], name)
    if isinstance(owner, nn.Module):
        return Change("attributes", f"{name}.{key}")
    return Change("settings", f"{name}.{key}")
