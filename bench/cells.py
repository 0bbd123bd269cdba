"""Cells: one model x task x method x seed x settings each, named by what they compute."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import prod
from typing import Any, get_args, get_origin, get_type_hints

from bench.config import (
    Choice,
    Matrix,
    ModelChoice,
    ObjectiveGrid,
    ObjectiveWeights,
    PromptCounts,
    PromptGrid,
)
from bench.records import PlannedRecord
from methods import METHODS
from methods.core.points import check_positions, parse_sites
from methods.method import Method
from tasks import TASKS
from tasks.build import build_task, label_of
from tasks.errors import UserInputError
from tasks.fingerprint import fingerprint
from tasks.registry import Entry, configure, lookup
from tasks.task import Task

NUMBERS_VERSION = 3
"""Raised whenever a change of the suite changes numbers: cells of older versions run again."""

MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class NamedTask:
    """A task with its settings, and how it is called in tables."""

    label: str
    name: str
    task: Task
    data: str
    """Digest of what it asks (`tasks.fingerprint`)."""


@dataclass(frozen=True)
class NamedMethod:
    """A method with its settings, and how it is called in tables."""

    label: str
    name: str
    method: Method
    departures: int = 0
    """How many of its settings that are lists have another value than their first."""


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be computed.

    Attributes:
        id: names the cell's directory; ends in a digest of the settings (`content_of`).
        settings: everything that decides the numbers, in plain types.
        parent: id of the cell whose scores this one starts from.
        objective: margin and weights, for training and for tuning beta.
        prompts: how many each split has.
        varied: which of the objective's and prompts' values tell the matrix's cells apart.
        transfer: other tasks on which what is trained is evaluated too.
        rows: rows of a forward that finished cells of its model and task had; None if there are
            none.
    """

    id: str
    model: ModelChoice
    task: NamedTask
    method: NamedMethod
    seed: int
    settings: dict[str, Any]
    parent: str | None
    objective: ObjectiveWeights
    prompts: PromptCounts
    varied: dict[str, float]
    transfer: tuple[NamedTask, ...] = ()
    rows: int | None = None

    @property
    def planned(self) -> PlannedRecord:
        """What the store keeps of it before it is computed."""
        kind = type(self.method.method)
        return PlannedRecord(
            id=self.id,
            model=self.model.name,
            task=self.task.label,
            method=self.method.label,
            trained=kind.trained,
            control=kind.control,
            draw=self.method.method.number_of_draw,
            seed=self.seed,
            varied=self.varied,
        )


def expand(
    matrix: Matrix, digest_of: Callable[[str], str], device_of: Callable[[str], str]
) -> list[PlannedCell]:
    """All cells of a matrix, every parent before what starts from it.

    A grid over the objective or the prompts multiplies the trained methods; an untrained method is
    computed once for all lambda_m, which its tuning does not know, and controls are computed for
    the first value of every list. In a grid of values varied alone a cell has at most one value
    that is not the first of its list.

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
    transfer = [_named_task(choice) for choice in matrix.transfer]
    grids = [_named_methods(choice) for choice in matrix.methods]
    methods = [method for grid in grids for method in grid]
    methods += _controls(methods, [grid[0] for grid in grids], matrix.controls.draws)
    _check_number(matrix, len(methods))
    _check_names(matrix, tasks, transfer, methods)

    cells = []
    for model in matrix.models:
        identity = _model_settings(model, digest_of, device_of)
        for task, seed, prompts in product(tasks, matrix.seeds, matrix.prompts.each):
            for objective in matrix.objective.each:
                known: dict[str, str] = {}
                for method in methods:
                    if not _takes_part(method, matrix, prompts, objective):
                        continue
                    others = _others(method, task, transfer)
                    settings = _settings(matrix, identity, task, method, seed) | {
                        "prompts": prompts.model_dump(),
                        "objective": objective.model_dump(),
                    }
                    if others:
                        settings["transfer"] = [
                            {**_task_settings(other), "data": other.data} for other in others
                        ]
                    parent = _parent_id(method, known)
                    settings["parent"] = parent and content_of(parent)
                    cell = PlannedCell(
                        _cell_id(model.name, task.label, method, seed, settings),
                        model,
                        task,
                        method,
                        seed,
                        settings,
                        parent,
                        objective,
                        prompts,
                        _varied(matrix, settings),
                        others,
                    )
                    known.setdefault(method.label, cell.id)
                    cells.append(cell)
    return cells


def _check_names(
    matrix: Matrix,
    tasks: list[NamedTask],
    transfer: list[NamedTask],
    methods: list[NamedMethod],
) -> None:
    """Nothing stands twice in a list of the matrix."""
    _check_unique("tasks", [task.label for task in tasks])
    _check_unique("methods", [f"{one.label} {one.method.number_of_draw}" for one in methods])
    _check_unique("transfer", [task.label for task in transfer])
    _check_unique("models", [model.name for model in matrix.models])
    _check_unique("seeds", [str(seed) for seed in matrix.seeds])
    for grid in (matrix.prompts, matrix.objective):
        for name, values in _lists(grid).items():
            _check_unique(name, [f"{value:g}" for value in values])


def _model_settings(
    model: ModelChoice, digest_of: Callable[[str], str], device_of: Callable[[str], str]
) -> dict[str, Any]:
    """What of a model decides numbers; a GPU's number does not."""
    return {
        "name": model.name,
        "digest": digest_of(model.name),
        "dtype": model.dtype,
        "device": device_of(model.device).partition(":")[0],
        "packed": model.packed,
        "autocast": model.autocast,
        "tf32": model.tf32,
    }


def _parent_id(method: NamedMethod, known: Mapping[str, str]) -> str | None:
    """Id of the cell whose scores a method starts from, of those known by label.

    Raises:
        UserInputError: if there is none of that label.
    """
    parent = method.method.parent
    if parent is None:
        return None
    if parent not in known:
        raise UserInputError(
            f'methods: "{method.label}" starts from the scores of "{parent}", '
            f"which has to stand before it; there are {', '.join(known)}."
        )
    return known[parent]


def _check_number(matrix: Matrix, methods: int) -> None:
    """Raises UserInputError for more cells than could ever be computed or listed."""
    lists = [*_lists(matrix.prompts).values(), *_lists(matrix.objective).values()]
    sizes = [len(matrix.models), len(matrix.tasks), len(matrix.seeds), *map(len, lists)]
    number = methods * prod(sizes)
    if number > MAX_CELLS:
        raise UserInputError(
            f"The matrix has up to {number} cells, more than {MAX_CELLS}: shorter lists are needed."
        )


def _others(
    method: NamedMethod, task: NamedTask, transfer: Sequence[NamedTask]
) -> tuple[NamedTask, ...]:
    """The tasks that what a method has trained on `task` is taken to."""
    if not type(method.method).trained:
        return ()
    return tuple(other for other in transfer if other.label != task.label)


def _takes_part(
    method: NamedMethod, matrix: Matrix, prompts: PromptCounts, objective: ObjectiveWeights
) -> bool:
    """Whether a method is computed for these values of the matrix's grids (see `expand`)."""
    kind = type(method.method)
    departures = method.departures + sum(
        getattr(chosen, name) != values[0]
        for grid, chosen in ((matrix.prompts, prompts), (matrix.objective, objective))
        for name, values in _lists(grid).items()
        if name != "seed"  # other prompts of the same task repeat a cell, they do not change it
    )
    if kind.control and departures > method.departures:
        return False
    if matrix.grid == "alone" and departures > 1:
        return False
    return kind.trained or objective.lambda_m == matrix.objective.lambda_m[0]


def _varied(matrix: Matrix, settings: Mapping[str, Any]) -> dict[str, float]:
    """The values of a cell in the matrix's grids over prompts and objective."""
    return {
        f"{part}.{name}": settings[part][name]
        for part, grid in (("prompts", matrix.prompts), ("objective", matrix.objective))
        for name, values in _lists(grid).items()
        if len(values) > 1
    }


def _lists(grid: PromptGrid | ObjectiveGrid) -> dict[str, list[float]]:
    """The values of everything in the grid that may have several."""
    fields = {name: getattr(grid, name) for name in type(grid).model_fields}
    return {name: values for name, values in fields.items() if isinstance(values, list)}


def _named_task(choice: Choice) -> NamedTask:
    name, task = build_task(choice.name, choice.settings)
    return NamedTask(label_of(name, task), name, task, fingerprint(task))


def _named_methods(choice: Choice) -> list[NamedMethod]:
    """A method once for every combination of the settings that are given as lists."""
    loaded = lookup(METHODS, choice.name, "method").load()
    where = f'method "{choice.name}"'
    hints = get_type_hints(loaded, include_extras=True)
    grid = [
        name
        for name, value in choice.settings.items()
        if isinstance(value, list) and not _takes_a_list(hints.get(name))
    ]
    empty = [name for name in grid if not choice.settings[name]]
    if empty:
        raise UserInputError(
            f'{where}: the setting "{empty[0]}" is a list of no values; a grid needs at least one.'
        )
    found = []
    for one in choice.over(grid):
        method: Method = configure(loaded, one.settings, where)
        departures = sum(one.settings[name] != choice.settings[name][0] for name in grid)
        found.append(NamedMethod(label_of(choice.name, method), choice.name, method, departures))
    return found


def _takes_a_list(annotation: object) -> bool:
    """Whether a list is one value of a setting with this annotation."""
    if get_origin(annotation) in (list, tuple, Sequence):
        return True
    return any(_takes_a_list(argument) for argument in get_args(annotation))


def _controls(
    methods: list[NamedMethod], parents: list[NamedMethod], draws: int
) -> list[NamedMethod]:
    """Random, and the scores of every untrained method of `parents` shuffled, `draws` times each.

    Draws that the matrix lists itself are not made twice.
    """
    untrained = [
        method.label
        for method in parents
        if not type(method.method).trained and not type(method.method).control
    ]
    choices = [{"name": "random", "draw": draw} for draw in range(draws)]
    for label in untrained:
        choices += [{"name": "shuffled", "of": label, "draw": draw} for draw in range(draws)]
    controls = [_named_methods(Choice.model_validate(choice))[0] for choice in choices]
    listed = {(method.label, method.method.number_of_draw) for method in methods}
    return [c for c in controls if (c.label, c.method.number_of_draw) not in listed]


def _check_unique(key: str, labels: list[str]) -> None:
    twice = sorted(label for label, count in Counter(labels).items() if count > 1)
    if twice:
        raise UserInputError(f"{key}: {', '.join(twice)} stands there more than once.")


def _settings(
    matrix: Matrix, model: Mapping[str, Any], task: NamedTask, method: NamedMethod, seed: int
) -> dict[str, Any]:
    """Everything that decides a cell's numbers, but the values of the matrix's own grids."""
    return {
        "numbers_version": NUMBERS_VERSION,
        "model": dict(model),
        "task": _task_settings(task),
        "task_data": task.data,
        "method": {"name": method.name, **asdict(method.method)},  # type: ignore[call-overload]
        **_code(TASKS[task.name], METHODS[method.name]),
        "seed": seed,
        "sites": [site.value for site in parse_sites(matrix.sites)],
        "positions": matrix.positions,
        "keep_final_residual": matrix.keep_final_residual,
        "sweep": matrix.sweep.model_dump(),
        **({"sparsity": matrix.sparsity.model_dump()} if matrix.sparsity.points else {}),
        "rows_per_forward": matrix.rows_per_forward,
    }


def _task_settings(task: NamedTask) -> dict[str, Any]:
    return {"name": task.name, **asdict(task.task)}  # type: ignore[call-overload]


def _code(*entries: Entry) -> dict[str, list[str]]:
    """Which code plug-ins are; the suite's own is known by NUMBERS_VERSION."""
    versions = [entry.version for entry in entries if entry.version]
    return {"plugins": versions} if versions else {}


def content_of(cell_id: str) -> str:
    """The digest at the end of an id: cells that have it in common have the same numbers."""
    return cell_id.rpartition("-")[2]


def same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two cells' settings are those of the same numbers; what is no settings is not."""
    try:
        return _content(one) == _content(other)
    except (AttributeError, KeyError, TypeError):
        return False


def _content(settings: Mapping[str, Any]) -> str:
    """Everything that decides the numbers as text.

    What a model is called and where a task's file lies, be it a part of a mixture or one that is
    taken to, are not part of it.
    """
    model = {key: value for key, value in settings["model"].items() if key != "name"}
    tasks = {key: _without_paths(settings[key]) for key in ("task", "transfer") if key in settings}
    return json.dumps({**settings, "model": model, **tasks}, sort_keys=True)


def _without_paths(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _without_paths(value) for key, value in data.items() if key != "path"}
    return [_without_paths(item) for item in data] if isinstance(data, list | tuple) else data


def _cell_id(
    model: str, task: str, method: NamedMethod, seed: int, settings: Mapping[str, Any]
) -> str:
    """A readable name with a digest of the content, safe as a directory's name."""
    digest = hashlib.sha256(_content(settings).encode()).hexdigest()[:16]
    called, draw = model.rstrip("/").rsplit("/")[-1], method.method.number_of_draw
    words = f"{called}-{task}-{method.label}-{draw}-s{seed}"
    readable = re.sub(r"[^A-Za-z0-9_=,-]+", "_", words).strip("_")[:120]
    return f"{readable}-{digest}"
