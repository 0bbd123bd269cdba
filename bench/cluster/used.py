"""Which plug-ins a matrix uses: a worker needs the same ones, of the same package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from methods import METHODS
from tasks import TASKS

TABLES = {"method": METHODS, "task": TASKS}
"""Models are not among them: only those workers need one that compute its cells."""
KEYS = ("tasks", "transfer", "methods")


def plug_ins_of(matrix: Mapping[str, Any]) -> dict[str, str]:
    """The version of each plug-in whose name stands in a matrix as plain data.

    Returns:
        'method "my_norm"' -> its package's name, version and a digest of the package's files
        (`Entry.version`), those of plug-in files too.
    """
    names = {text for key in KEYS for text in _texts(matrix.get(key))}
    return {
        f'{kind} "{name}"': entry.version
        for kind, table in TABLES.items()
        for name, entry in table.items()
        if entry.version and name in names
    }


def _texts(data: Any) -> Iterator[str]:
    """All strings within: a task may be a part of a mixture."""
    if isinstance(data, Mapping):
        data = list(data.values())
    if isinstance(data, list | tuple):
        for item in data:
            yield from _texts(item)
    elif isinstance(data, str):
        yield data
