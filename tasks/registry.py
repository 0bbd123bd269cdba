"""Tables of names (tasks, methods): looking a name up, and building what it names from settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from importlib import import_module
from math import isfinite
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tasks.errors import UserInputError, nearest, shown

T = TypeVar("T")
FITS = range(-(2**63), 2**63)
"""Whole numbers that tables can hold."""


@dataclass(frozen=True)
class Entry:
    """One line of a table: where a class lives and what it is.

    Nothing is imported before `load`, so a table can be listed at once.
    """

    target: str
    """``package.module:Class``."""
    summary: str
    """One line for `python -m bench list`."""
    origin: str = ""
    """Of a plug-in: the package or file that it comes from, in words."""
    version: str = ""
    """Of a plug-in: which code it is. Cells of other code are other cells."""

    def load(self) -> type[Any]:
        """Import the module and return the class."""
        module, _, name = self.target.partition(":")
        loaded: type[Any] = getattr(import_module(module), name)
        return loaded


def lookup(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Return the entry called `name`.

    `kind` is the word for what the table holds ("task", "method"). Raises `UserInputError`, naming
    the nearest entry, where there is none.
    """
    if name in table:
        return table[name]
    raise UserInputError(f'There is no {kind} "{name}".{nearest(name, table)}')


def configure(cls: type[T], settings: Mapping[str, object], where: str) -> T:
    """Build the frozen dataclass `cls` from settings as read from YAML or a command line.

    `where` opens every message (`'task "ccc"'`). Raises `UserInputError`, for an unknown setting or
    an unknown choice with the nearest one, for a wrong type with what was expected, and for
    whatever the class's own `__post_init__` refuses with a `ValueError`.
    """
    if not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass, so its settings have no names")
    known = [field.name for field in fields(cls) if field.init]
    for name in settings:
        if name not in known:
            raise UserInputError(
                f'{where}: there is no setting "{name}".{nearest(str(name), known)}'
            )
    adapter, hints = _checks(cls)
    for name, value in settings.items():
        if _holds_truth(value) and _counts(hints.get(name)):
            raise UserInputError(f'{where}: the setting "{name}" is {value}, which is no number.')
    try:
        built: T = adapter.validate_python(dict(settings))
    except ValidationError as error:
        problems = "; ".join(_explain(cls, dict(problem)) for problem in error.errors())
        raise UserInputError(f"{where}: {problems}") from None
    for name in settings:
        problem = beyond(getattr(built, name, None))
        if problem:
            raise UserInputError(f'{where}: the setting "{name}" {problem}.')
    return built


@lru_cache(maxsize=256)
def _checks(cls: Any) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    """What checks the settings of a class, and their annotations; a grid asks for it again."""
    return TypeAdapter(cls), get_type_hints(cls)


def beyond(value: object) -> str:
    """Return why no table can hold a setting's value, in words; "" for one that it can."""
    if isinstance(value, int) and value not in FITS:
        return f"is {shown(value)}, but whole numbers have to be between -2^63 and 2^63 - 1"
    if isinstance(value, float) and not isfinite(value):
        return f"is {value}, but numbers have to be finite"
    if isinstance(value, Mapping):
        value = [*value.values()]
    return next(filter(None, map(beyond, value)), "") if isinstance(value, list | tuple) else ""


def _holds_truth(value: object) -> bool:
    """Return whether a value is true or false, or a list that has one of them."""
    return isinstance(value, bool) or (isinstance(value, list) and any(map(_holds_truth, value)))


def _counts(annotation: object) -> bool:
    """Return whether a setting with this annotation is a number, and not true or false."""
    inner = [*_parts(annotation)]
    return bool({int, float}.intersection(inner)) and bool not in inner


def _parts(annotation: object) -> Iterator[type[Any]]:
    """Yield the classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _explain(cls: type[Any], problem: dict[str, Any]) -> str:
    """Put one of pydantic's problems into a sentence about a setting."""
    location, value = problem["loc"], problem["input"]
    if problem["type"] == "missing":
        return f'the setting "{location[0]}" is required.'
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return message if message.endswith(".") else f"{message}."
    name = ".".join(str(step) for step in location)
    choices = [str(choice) for choice in _choices(get_type_hints(cls).get(str(location[0])))]
    if choices and isinstance(value, str):
        return f'the setting "{name}" cannot be "{value}".{nearest(value, choices)}'
    known = f" Known: {', '.join(choices)}." if choices else ""
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f'the setting "{name}" is {shown(value)}, but {message}.{known}'


def _choices(annotation: object) -> Iterator[object]:
    """Yield the values of every `Literal` inside a type annotation."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for argument in get_args(annotation):
        yield from _choices(argument)
