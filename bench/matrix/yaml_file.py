"""Reads a matrix from YAML that may be anybody's, and says in words what is wrong with it.

No code, no bombs, no more than a matrix can need; every problem names its file, key or line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from bench.matrix.schema import Matrix
from tasks.errors import UserInputError, nearest, shown

MAX_BYTES = 256 * 1024
"""A matrix of a million cells is a few kilobytes; PyYAML reads some 100 kB a second."""
MAX_NODES = 100_000
"""Values after every alias is written out."""
SHOWN_PROBLEMS = 10


def load_yaml(path: Path) -> object:
    """What a YAML file holds, in plain types.

    Raises:
        UserInputError: if it cannot be read, is not YAML or UTF-8, is too large or nested too
            deeply, its aliases blow up, or a key stands twice in a mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserInputError(
                f"{path} has {size} bytes; a matrix has {MAX_BYTES} at most, so it is not read."
            )
        loader = _Loader(path.read_text("utf-8"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded(node, {}) > MAX_NODES:
                raise UserInputError(
                    f"{path} holds more than {MAX_NODES} values once its aliases are written out."
                )
            content: object = loader.construct_document(node)
            return content
        except _TwiceError as error:
            raise UserInputError(f"{path}: {error}") from None
        finally:
            loader.dispose()
    except RecursionError:
        raise UserInputError(f"{path} is nested too deeply, or in itself.") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        if isinstance(error, UserInputError):
            raise
        reason = " ".join(str(error).split())
        raise UserInputError(f"{path} is not YAML that can be read: {reason}") from None


class _TwiceError(UserInputError):
    """A key stands twice in a mapping."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which PyYAML would take the last.

    Before merge keys (`<<`) are carried out: what they bring may be overridden.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            named, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if named in lines:
                raise _TwiceError(
                    f'the key "{key.value}" stands in line {lines[named]} and again in line '
                    f"{line}: one of the two has to go."
                )
            if isinstance(key, yaml.ScalarNode):
                lines[named] = line
        return node


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; one that holds itself raises RecursionError."""
    if id(node) in known:
        if known[id(node)] < 0:
            raise RecursionError
        return known[id(node)]
    known[id(node)] = -1
    children = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in children for child in pair]
    known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]


def parse(data: Mapping[str, object], where: str) -> Matrix:
    """Checks a matrix; `where` opens the message of an error.

    Raises:
        UserInputError: as `load_config`.
    """
    try:
        return Matrix.model_validate(data)
    except ValidationError as error:
        problems = _explained(error, data)
        more = len(problems) - SHOWN_PROBLEMS
        words = " ".join(problems[:SHOWN_PROBLEMS]) + (f" And {more} more." if more > 0 else "")
        raise UserInputError(f"{where}: {words}") from None


def _explained(error: ValidationError, data: object) -> list[str]:
    """A sentence for every place in `data` where something is wrong.

    A value that may be of several kinds has a problem with each: they are told in one sentence,
    and only those of the kind that fits best.
    """
    found: dict[tuple[str | int, ...], list[dict[str, Any]]] = {}
    for problem in error.errors():
        is_key = problem["type"] in ("missing", "invalid_key")
        place = _written(problem["loc"][:-1] if is_key else problem["loc"], data)
        place = (*place, problem["loc"][-1]) if is_key else place
        found.setdefault(place, []).append(dict(problem))
    outer = {place[:depth] for place in found for depth in range(len(place))}
    return [_explain(place, problems) for place, problems in found.items() if place not in outer]


def _explain(location: tuple[str | int, ...], problems: list[dict[str, Any]]) -> str:
    """Pydantic's problems at one place as a sentence."""
    *parents, last = location or ("",)
    at, problem = ".".join(str(step) for step in location), problems[0]
    if problem["type"] == "extra_forbidden":
        return f'there is no key "{at}".{nearest(str(last), _keys(parents))}'
    if problem["type"] == "missing":
        return f'the key "{at}" is missing.'
    if problem["type"] == "invalid_key":
        return f'"{at}" is a key that is no text: keys have to be words.'
    if problem["type"] == "value_error":
        return f'"{at}": {problem["ctx"]["error"]}.' if at else f"{problem['ctx']['error']}."
    messages = (one["msg"][:1].lower() + one["msg"][1:] for one in problems)
    return f'"{at}" is {shown(problem["input"])}, but {", or ".join(messages)}.'


def _written(location: Sequence[str | int], data: object) -> tuple[str | int, ...]:
    """The part of a problem's location that the user wrote.

    One value is no list of one, and which of several kinds of value was tried is no place.
    """
    written: list[str | int] = []
    for step in location:
        has_it = step in data if isinstance(data, Mapping) else isinstance(step, int)
        if has_it and isinstance(data, Mapping | list):
            data = data[step]  # type: ignore[index]
            written.append(step)
    return tuple(written)


def _keys(parents: Sequence[str | int]) -> list[str]:
    """The keys that the mapping at `parents` may have."""
    model: type[BaseModel] = Matrix
    for step in parents:
        if isinstance(step, int):
            continue
        annotation: Any = model.model_fields[step].annotation
        model = getattr(annotation, "__args__", (annotation,))[0]
    return list(model.model_fields)
