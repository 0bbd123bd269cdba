"""A task from its name, or a file's path, and its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

from tasks import TASKS
from tasks.errors import UserInputError
from tasks.registry import configure, lookup
from tasks.task import Task

FILE, FILE_ENDINGS = "file", (".jsonl", ".csv", ".tsv")


def build_task(name: str, settings: Mapping[str, object]) -> tuple[str, Task]:
    """Return the name in `TASKS` and the configured task.

    A path that ends in .jsonl, .csv or .tsv stands for the task `file` with that path.

    Raises `UserInputError` for an unknown name or setting, and for a file that is not a task.
    """
    where = f'task "{name}"'
    if name.lower().endswith(FILE_ENDINGS):
        name, settings = FILE, {"path": name, **settings}
    elif name not in TASKS and Path(name).is_file():
        raise UserInputError(
            f"{where}: a file of prompts ends in {', '.join(FILE_ENDINGS)}; "
            "{name: file, path: ...} takes lines of JSON under any name."
        )
    task: Task = configure(lookup(TASKS, name, "task").load(), settings, where)
    return name, task


def label_of(name: str, configured: Any) -> str:
    """Return how a task or method is called in tables.

    That is its name (or its own `title`), and in brackets the settings that are not the default;
    draws, and fields that are not part of its `repr`, are not shown.
    """
    shown = [
        f"{field.name}={getattr(configured, field.name)}"
        for field in fields(configured)
        if field.repr and field.name != "draw" and getattr(configured, field.name) != field.default
    ]
    name = getattr(configured, "title", name)
    return f"{name}[{','.join(shown)}]" if shown else name


def labels_of(tasks: Sequence[tuple[str, Any]]) -> list[str]:
    """Return how tasks that stand beside each other are called, by their names and the tasks.

    As `label_of`; files of one name have so much of their folders in front as tells them apart.
    """
    labels = [label_of(name, task) for name, task in tasks]
    paths = {at: Path(task.path).resolve() for at, (name, task) in enumerate(tasks) if name == FILE}
    for label in {labels[at] for at in paths}:
        places = [at for at in paths if labels[at] == label]
        files = {paths[at] for at in places}
        depth = next(n for n in count(1) if len({file.parts[-n:] for file in files}) == len(files))
        for at in places:
            folders = Path(*paths[at].parts[-depth:]).as_posix()
            labels[at] = folders + label.removeprefix(paths[at].name)
    return labels
