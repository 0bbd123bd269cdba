"""Tables of names (tasks, methods): looking a name up, and building what it names from settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tasks.errors import UserInputError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One line of a table: where a class lives and what it is.

    Nothing is imported before `load`, so a table can be listed at once.
    """

    target: str
    """`"package.module:Class"`."""
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
    try:
        return TypeAdapter(cls).validate_python(dict(settings))
    except ValidationError as error:
        problems = "; ".join(_explain(cls, dict(problem)) for problem in error.errors())
        raise UserInputError(f"{where}: {problems}") from None


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
    return f'the setting "{name}" is {value!r}, but {message}.{known}'


def _choices(annotation: object) -> Iterator[object]:
    """Yield the values of every `Literal` inside a type annotation."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for argument in get_args(annotation):
        yield from _choices(argument)
