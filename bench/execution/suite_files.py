"""What workers must have in common with a run: the suite's code, its plug-ins, the tasks' files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from methods import METHODS
from tasks import TASKS
from tasks.build import FILE_ENDINGS
from tasks.rows import MAX_FILE

PACKAGES = ("bench", "methods", "tasks")
"""Those that decide numbers; reports are made of what is stored."""
CODE_ENDINGS = (".py", ".json", ".tsv")
"""Of code and of what the tasks read. Presets (YAML) reach workers as the matrix."""
NAMED = 3
"""Files that differ are named, as long as there are no more."""
TABLES = {"method": METHODS, "task": TASKS}
"""Models are not among them: only those workers need one that compute its cells."""


def code_on_disk(root: Path) -> dict[str, str]:
    """A short digest of each of the suite's files below `root`, whatever its line endings are.

    What editors and notebooks leave beside code, in hidden folders, is no part of it.
    """
    files = [file for package in PACKAGES for file in (root / package).rglob("*")]
    names = {file.relative_to(root): file for file in files if file.suffix in CODE_ENDINGS}
    return {
        name.as_posix(): hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]
        for name, file in names.items()
        if file.is_file() and not any(part.startswith(".") for part in name.parts)
    }


ROOT = Path(__file__).resolve().parents[2]
CODE = code_on_disk(ROOT)
"""Of this process: what it has imported stays what it is when a file is changed afterwards."""


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The files in which two copies of the suite differ, in words; "" if they are the same."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def plug_ins_of(matrix: Mapping[str, Any]) -> dict[str, str]:
    """The version of each plug-in whose name stands in a matrix as plain data.

    Returns:
        'method "my_norm"' -> its package's name, version and a digest of the package's files
        (`Entry.version`), those of plug-in files too.
    """
    names = {text for key in ("tasks", "transfer", "methods") for text in _texts(matrix.get(key))}
    return {
        f'{kind} "{name}"': entry.version
        for kind, table in TABLES.items()
        for name, entry in table.items()
        if entry.version and name in names
    }


def _texts(data: Any) -> Iterator[str]:
    """All strings within: a task may be a part of a mixture."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list | tuple):
        for item in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(item)


def task_files(matrix: Mapping[str, Any]) -> dict[str, bytes]:
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


def with_task_files(
    matrix: Mapping[str, Any], files: Mapping[str, bytes], folder: Path
) -> dict[str, Any]:
    """The matrix with the paths of copies of its tasks' files, which are written into `folder`.

    A copy keeps the file's name, by which the task is called in tables.
    """

    def copy(path: str) -> str:
        if path not in files:
            return path
        file = folder / hashlib.sha256(path.encode()).hexdigest()[:16] / Path(path).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(files[path])
        return str(file)

    return _with_paths(matrix, copy)


def _with_paths(matrix: Mapping[str, Any], new: Callable[[str], str]) -> dict[str, Any]:
    """The matrix with `new(path)` for the path of every task's file."""

    def walk(data: Any, key: str = "name") -> Any:
        if isinstance(data, Mapping):
            return {name: walk(value, str(name)) for name, value in data.items()}
        if isinstance(data, list | tuple):
            return [walk(item) for item in data]
        is_file = isinstance(data, str) and (
            key == "path" or (key == "name" and data.lower().endswith(FILE_ENDINGS))
        )
        return new(data) if is_file else data

    return {**matrix, **{key: walk(matrix[key]) for key in ("tasks", "transfer") if key in matrix}}
