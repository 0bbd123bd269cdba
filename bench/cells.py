"""Cells: one model x task x method x seed x settings each, named by what they compute."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from bench.config import Choice, Matrix, ModelChoice
from methods import METHODS
from methods.core.points import check_positions, parse_sites
from methods.method import Method
from tasks import TASKS
from tasks.errors import UserInputError
from tasks.registry import configure, lookup
from tasks.task import Task

NUMBERS_VERSION = 1
"""Raised whenever a change of the suite changes numbers: cells of older versions run again."""


@dataclass(frozen=True)
class NamedTask:
    """A task with its settings, and how it is called in tables."""

    label: str
    name: str
    task: Task


@dataclass(frozen=True)
class NamedMethod:
    """A method with its settings, and how it is called in tables."""

    label: str
    name: str
    method: Method


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be computed.

    Attributes:
        id: names the cell's directory; two cells with the same settings have the same id.
        settings: everything that decides the numbers, in plain types.
        parent: id of the cell whose scores this one starts from.
    """

    id: str
    model: ModelChoice
    task: NamedTask
    method: NamedMethod
    seed: int
    settings: dict[str, Any]
    parent: str | None


def expand(
    matrix: Matrix, digest_of: Callable[[str], str], device_of: Callable[[str], str]
) -> list[PlannedCell]:
    """All cells of a matrix, every parent before what starts from it.

    Args:
        matrix: the matrix.
        digest_of: model name -> digest of its weights.
        device_of: device setting -> the kind of device that is used.

    Raises:
        UserInputError: for unknown models, tasks, methods, sites or settings.
    """
    parse_sites(matrix.sites)
    check_positions(matrix.positions)
    tasks = [_named_task(choice) for choice in matrix.tasks]
    methods = [_named_method(choice) for choice in matrix.methods]
    methods += _controls(methods, matrix.controls.draws)
    _check_unique("tasks", [task.label for task in tasks])
    _check_unique("methods", [f"{method.label} {_draw(method.method)}" for method in methods])
    _check_unique("models", [model.name for model in matrix.models])
    _check_unique("seeds", [str(seed) for seed in matrix.seeds])

    cells = []
    for model in matrix.models:
        identity: dict[str, Any] = {
            "name": model.name,
            "digest": digest_of(model.name),
            "dtype": model.dtype,
            "device": device_of(model.device),
            "packed": model.packed,
        }
        for task in tasks:
            for seed in matrix.seeds:
                known: dict[str, str] = {}
                for method in methods:
                    settings = _settings(matrix, identity, task, method, seed)
                    parent = method.method.parent
                    if parent is not None and parent not in known:
                        raise UserInputError(
                            f'methods: "{method.label}" starts from the scores of "{parent}", '
                            f"which has to stand before it; there are {', '.join(known)}."
                        )
                    settings["parent"] = known[parent] if parent else None
                    cell = PlannedCell(
                        _cell_id(model.name, task.label, method, seed, settings),
                        model,
                        task,
                        method,
                        seed,
                        settings,
                        settings["parent"],
                    )
                    known.setdefault(method.label, cell.id)
                    cells.append(cell)
    return cells


def _named_task(choice: Choice) -> NamedTask:
    loaded = lookup(TASKS, choice.name, "task").load()
    task: Task = configure(loaded, choice.settings, f'task "{choice.name}"')
    return NamedTask(_label(choice.name, task), choice.name, task)


def _named_method(choice: Choice) -> NamedMethod:
    loaded = lookup(METHODS, choice.name, "method").load()
    method: Method = configure(loaded, choice.settings, f'method "{choice.name}"')
    return NamedMethod(_label(choice.name, method), choice.name, method)


def _controls(methods: list[NamedMethod], draws: int) -> list[NamedMethod]:
    """Random, and every untrained method's scores shuffled, `draws` times each.

    Draws that the matrix lists itself are not made twice.
    """
    untrained = [
        method.label
        for method in methods
        if not type(method.method).trained and not type(method.method).control
    ]
    choices = [{"name": "random", "draw": draw} for draw in range(draws)]
    for label in untrained:
        choices += [{"name": "shuffled", "of": label, "draw": draw} for draw in range(draws)]
    controls = [_named_method(Choice.model_validate(choice)) for choice in choices]
    listed = {(method.label, _draw(method.method)) for method in methods}
    return [c for c in controls if (c.label, _draw(c.method)) not in listed]


def _label(name: str, configured: Any) -> str:
    """The name, and in brackets the settings that are not the default; draws are not shown."""
    shown = [
        f"{field.name}={getattr(configured, field.name)}"
        for field in fields(configured)
        if field.name != "draw" and getattr(configured, field.name) != field.default
    ]
    return f"{name}[{','.join(shown)}]" if shown else name


def _draw(method: Method) -> int:
    return int(getattr(method, "draw", 0))


def _check_unique(key: str, labels: list[str]) -> None:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserInputError(f"{key}: {', '.join(twice)} stands there more than once.")


def _settings(
    matrix: Matrix, model: Mapping[str, Any], task: NamedTask, method: NamedMethod, seed: int
) -> dict[str, Any]:
    """Everything that decides a cell's numbers."""
    return {
        "numbers_version": NUMBERS_VERSION,
        "model": dict(model),
        "task": {"name": task.name, **asdict(task.task)},  # type: ignore[call-overload]
        "method": {"name": method.name, **asdict(method.method)},  # type: ignore[call-overload]
        "seed": seed,
        "sites": [site.value for site in parse_sites(matrix.sites)],
        "positions": matrix.positions,
        "keep_final_residual": matrix.keep_final_residual,
        "prompts": matrix.prompts.model_dump(),
        "objective": matrix.objective.model_dump(),
        "sweep": matrix.sweep.model_dump(),
        "rows_per_forward": matrix.rows_per_forward,
    }


def _cell_id(
    model: str, task: str, method: NamedMethod, seed: int, settings: Mapping[str, Any]
) -> str:
    """A readable name with a digest of the settings, safe as a directory's name."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    words = (
        f"{model.rstrip('/').rsplit('/')[-1]}-{task}-{method.label}-{_draw(method.method)}-s{seed}"
    )
    readable = re.sub(r"[^A-Za-z0-9_=,-]+", "_", words).strip("_")[:120]
    return f"{readable}-{digest}"
