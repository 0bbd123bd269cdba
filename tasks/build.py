"""A task from its name, or a file's path, and its settings."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tasks import TASKS
from tasks.errors import UserInputError
from tasks.registry import configure, lookup
from tasks.task import Task

FILE_ENDINGS = (".jsonl", ".csv", ".tsv")


def build_task(name: str, settings: Mapping[str, object]) -> tuple[str, Task]:
    """Return the name in `TASKS` and the configured task.

    A path that ends in .jsonl, .csv or .tsv stands for the task `file` with that path.

    Raises `UserInputError` for an unknown name or setting, and for a file that is not a task.
    """
    where = f'task "{name}"'
    if name.lower().endswith(FILE_ENDINGS):
        name, settings = "file", {"path": name, **settings}
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
