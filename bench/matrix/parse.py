"""A mapping checked against the matrix's schema; every problem is a sentence that names its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.matrix.schema import Matrix
from tasks.errors import UserInputError, nearest


def parse(data: Mapping[str, object], where: str) -> Matrix:
    """Checks a matrix; `where` opens the message of an error.

    Raises:
        UserInputError: as `load_config`.
    """
    try:
        return Matrix.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(dict(problem), data) for problem in error.errors())
        raise UserInputError(f"{where}: {problems}") from None


def _explain(problem: dict[str, Any], data: object) -> str:
    """One of pydantic's problems with `data` as a sentence."""
    location = _written(problem["loc"], data)
    *parents, last = location or ("",)
    at = ".".join(str(step) for step in location)
    if problem["type"] == "extra_forbidden":
        return f'there is no key "{at}".{nearest(str(last), _keys(parents))}'
    if problem["type"] == "missing":
        return f'the key "{at}" is missing.'
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f'"{at}" is {problem["input"]!r}, but {message}.'


def _written(location: Sequence[str | int], data: object) -> Sequence[str | int]:
    """The part of a problem's location that the user wrote: one value is no list of one."""
    for place, step in enumerate(location):
        if isinstance(step, int) and not isinstance(data, list):
            return location[:place]
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return location


def _keys(parents: Sequence[str | int]) -> list[str]:
    """The keys that the mapping at `parents` may have."""
    model: type[BaseModel] = Matrix
    for step in parents:
        if isinstance(step, int):
            continue
        annotation: Any = model.model_fields[step].annotation
        model = getattr(annotation, "__args__", (annotation,))[0]
    return list(model.model_fields)
