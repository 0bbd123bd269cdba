"""The files of a matrix's tasks, sent to workers that do not see this machine's disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.build import FILE_ENDINGS
from tasks.rows import MAX_FILE

KEYS = ("tasks", "transfer")
"""Of a matrix: where tasks are."""


def contents(matrix: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a matrix's tasks, those within a mixture too: path as written -> content.

    Files that are not there, or larger than a task may be, are left to whoever builds the task.
    """
    found: dict[str, bytes] = {}

    def note(path: str) -> str:
        file = Path(path)
        if file.is_file() and file.stat().st_size <= MAX_FILE:
            found[path] = file.read_bytes()
        return path

    _with_paths(matrix, note)
    return found


def unpacked(matrix: Mapping[str, Any], files: Mapping[str, bytes], folder: Path) -> dict[str, Any]:
    """The matrix with the paths of copies of its tasks' files, which are written into `folder`.

    A copy keeps the file's name, by which the task is called in tables.
    """

    def copy(path: str) -> str:
        if path not in files:
            return path
        home = folder / hashlib.sha256(path.encode()).hexdigest()[:16]
        home.mkdir(parents=True, exist_ok=True)
        file = home / Path(path).name
        file.write_bytes(files[path])
        return str(file)

    return _with_paths(matrix, copy)


def _with_paths(matrix: Mapping[str, Any], new: Callable[[str], str]) -> dict[str, Any]:
    """The matrix with `new(path)` for the path of every task's file."""
    return {**matrix, **{key: _walk(matrix[key], new) for key in KEYS if key in matrix}}


def _walk(data: Any, new: Callable[[str], str], key: str = "name") -> Any:
    if isinstance(data, Mapping):
        return {name: _walk(value, new, str(name)) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_walk(item, new, "name") for item in data]
    if isinstance(data, str) and (key == "path" or _stands_for_a_file(key, data)):
        return new(data)
    return data


def _stands_for_a_file(key: str, name: str) -> bool:
    return key == "name" and name.lower().endswith(FILE_ENDINGS)
