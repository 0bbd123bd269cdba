"""Sizes of a matrix: one file holds the small default and what other sizes change of it.

    models: [smollm2-135m]
    prompts: {train: 4}
    sizes:
      paper:
        models: [gpt2]

`python -m bench run FILE --size paper` merges that part over the rest: a mapping into a mapping,
anything else in the place of what was there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import UserInputError, nearest

SMALL = "small"
"""The size that a file has without its `sizes`."""


def of_size(data: Mapping[str, object], size: str, where: str) -> dict[str, object]:
    """`data` at one of its sizes, without the key `sizes`.

    Raises:
        UserInputError: for a size that the matrix does not have (names the nearest), and `sizes`
            that are no mapping of names to mappings.
    """
    sizes = data.get("sizes", {})
    if not isinstance(sizes, Mapping) or not all(
        isinstance(part, Mapping) for part in sizes.values()
    ):
        raise UserInputError(f'{where}: "sizes" has to be a mapping of names to what they change.')
    plain = {key: value for key, value in data.items() if key != "sizes"}
    if size == SMALL:
        return plain
    if size not in sizes:
        raise UserInputError(f'{where} has no size "{size}".{nearest(size, [SMALL, *sizes])}')
    merged: dict[str, object] = _merged(plain, sizes[size])
    return merged


def _merged(base: Any, change: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(change, Mapping)):
        return change
    return {**base, **{key: _merged(base.get(key), value) for key, value in change.items()}}


def only(
    data: Mapping[str, object], models: Sequence[str] = (), tasks: Sequence[str] = ()
) -> dict[str, object]:
    """`data` with these models and tasks instead of its own; one that it has keeps its settings."""
    return {
        **data,
        **{
            key: [_listed(data.get(key), name) for name in names]
            for key, names in (("models", models), ("tasks", tasks))
            if names
        },
    }


def _listed(items: object, name: str) -> object:
    """The item of that name in a list of names and mappings; the name if there is none."""
    if isinstance(items, list):
        for item in items:
            if isinstance(item, Mapping) and item.get("name") == name:
                return item
    return name
