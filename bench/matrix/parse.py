"""A mapping checked against the matrix's schema; every problem is a sentence that names its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.matrix.schema import Matrix
from tasks.errors import UserInputError, nearest, shown

SHOWN_PROBLEMS = 10


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
