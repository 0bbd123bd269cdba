"""Cells: one model x task x method x seed x settings each, in the order they are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from bench.matrix.identity import Asked, cell_id, model_settings, scored_as, settings_of
from bench.matrix.named import (
    MethodGrid,
    NamedMethod,
    NamedTask,
    controls,
    model_labels,
    named_tasks,
)
from bench.matrix.schema import (
    Matrix,
    ModelChoice,
    ObjectiveWeights,
    PromptCounts,
)
from bench.matrix.stages import Stages
from bench.models.load import stated_of
from bench.store.run_record import PlannedRecord
from methods.core.points import check_positions, parse_sites
from tasks.errors import UserInputError

MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class PlannedCell:
    """A cell that is to be computed.

    Attributes:
        id: names the cell's directory; ends in a digest of the settings (`content_of`).
        model_label: how its model is called in tables.
        settings: everything that decides the numbers, in plain types.
        parent: id of the cell whose scores this one starts from.
        objective: margin and weights, for training and for tuning beta.
        prompts: how many each split has.
        stages: what is measured of it.
        varied: which of the objective's and prompts' values tell the matrix's cells apart.
        transfer: other tasks on which what is trained is evaluated too.
        elsewhere: other tasks on which its intervention should do nothing.
        rows: rows of a forward that finished cells of its model and task had; None if there are
            none.
    """

    id: str
    model: ModelChoice
    model_label: str
    task: NamedTask
    method: NamedMethod
    seed: int
    settings: dict[str, Any]
    parent: str | None
    objective: ObjectiveWeights
    prompts: PromptCounts
    stages: Stages
    varied: dict[str, float]
    transfer: tuple[NamedTask, ...] = ()
    elsewhere: tuple[NamedTask, ...] = ()
    rows: int | None = None

    @property
    def planned(self) -> PlannedRecord:
        """What the store keeps of it before it is computed."""
        kind = type(self.method.method)
        return PlannedRecord(
            id=self.id,
            model=self.model_label,
            task=self.task.label,
            method=self.method.label,
            trained=kind.trained,
            control=kind.control,
            draw=self.method.method.number_of_draw,
            seed=self.seed,
            varied=self.varied,
        )


def expand(
    matrix: Matrix,
    digest_of: Callable[[str], str],
    device_of: Callable[[str], str],
    stated: Callable[[str], Mapping[str, str]] = stated_of,
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
        stated: model name -> what its entry says, where its cells are computed.

    Raises:
        UserInputError: for unknown models, tasks, methods, sites or settings.
    """
    parse_sites(matrix.sites)
    check_positions(matrix.positions)
    grids = [MethodGrid.of(choice) for choice in matrix.methods]
    _check_number(matrix, grids)  # before anything is made of them
    methods = _methods(matrix, grids)
    unasked = matrix.specificity.tasks if matrix.specificity else []
    listed = {"tasks": matrix.tasks, "transfer": matrix.transfer, "specificity: tasks": unasked}
    _check_once(
        {key: [f"{one.name}{one.settings or ''}" for one in of] for key, of in listed.items()}
    )  # before any is built
    named = named_tasks([choice for choices in listed.values() for choice in choices])
    first, second = len(matrix.tasks), len(matrix.tasks) + len(matrix.transfer)
    tasks, transfer, elsewhere = named[:first], named[first:second], named[second:]
    labels = model_labels(matrix.models)
    _check_names(matrix, labels, tasks, transfer, elsewhere, methods)
    _check_asked(matrix, named)
    others = transfer, elsewhere or tasks

    cells = [
        cell
        for label, model in zip(labels, matrix.models, strict=True)
        for identity in [model_settings(model, digest_of, device_of, stated)]
        for asked in product(
            _asked_of(model, tasks), matrix.seeds, matrix.prompts.each, matrix.objective.each
        )
        for cell in _cells_of(matrix, (label, model), identity, Asked(*asked), methods, others)
    ]
    _check_models(cells)
    return cells


def _methods(matrix: Matrix, grids: Sequence[MethodGrid]) -> list[NamedMethod]:
    """The methods of a matrix, and the controls for the first of each grid."""
    found = [grid.methods(matrix.grid == "alone") for grid in grids]
    firsts = [
        methods[0]
        for grid, methods in zip(grids, found, strict=True)
        if grid.is_shuffled(matrix.controls)
    ]
    listed = [method for methods in found for method in methods]
    return listed + controls(listed, firsts, matrix.controls)


def _cells_of(
    matrix: Matrix,
    labelled: tuple[str, ModelChoice],
    identity: Mapping[str, Any],
    asked: Asked,
    methods: Sequence[NamedMethod],
    others: tuple[Sequence[NamedTask], Sequence[NamedTask]],
) -> Iterator[PlannedCell]:
    """A cell a method that takes part, all else being the same.

    `others` are tasks on which what is trained is evaluated too, and tasks on which whatever is
    fitted should do nothing.
    """
    known: dict[str, tuple[str, str]] = {}
    label, model = labelled
    to_transfer, to_harm = (
        tuple(other for other in _asked_of(model, tasks) if other.label != asked.task.label)
        for tasks in others
    )
    for method in methods:
        if not _takes_part(method, matrix, asked):
            continue
        stages = _stages_of(matrix, method)
        transfer = to_transfer if type(method.method).trained else ()
        elsewhere = to_harm if stages.specificity else ()
        parent, scores = _parent(method, known)
        settings = settings_of(matrix, identity, asked, method, stages, transfer, elsewhere, scores)
        name = cell_id(label, asked, method, settings)
        if method.label not in known:  # draws share a label
            known[method.label] = (name, scored_as(settings))
        varied = {
            f"{part}.{name}": settings[part][name]
            for part, grid in (("prompts", matrix.prompts), ("objective", matrix.objective))
            for name, values in grid.lists.items()
            if len(values) > 1
        }
        yield PlannedCell(
            id=name,
            model=model,
            model_label=label,
            task=asked.task,
            method=method,
            seed=asked.seed,
            settings=settings,
            parent=parent,
            objective=asked.objective,
            prompts=asked.prompts,
            stages=stages,
            varied=varied,
            transfer=transfer,
            elsewhere=elsewhere,
        )


def _stages_of(matrix: Matrix, method: NamedMethod) -> Stages:
    """What is measured of a method's cells."""
    one = method.method
    if type(one).control:
        shuffled = one.parent is not None
        return matrix.stages.of_a_control(one.number_of_draw, shuffled, matrix.controls.brief)
    return matrix.stages.of_a_method(type(one).trained)


def _check_names(
    matrix: Matrix,
    models: list[str],
    tasks: list[NamedTask],
    transfer: list[NamedTask],
    elsewhere: list[NamedTask],
    methods: list[NamedMethod],
) -> None:
    """Raises UserInputError where something stands twice in a list of the matrix."""
    lists = {
        "tasks": [task.label for task in tasks],
        "methods": [f"{one.label} {one.method.number_of_draw}" for one in methods],
        "transfer": [task.label for task in transfer],
        "specificity: tasks": [task.label for task in elsewhere],
        "models": models,
        "seeds": [str(seed) for seed in matrix.seeds],
    }
    for key, values in (matrix.prompts.lists | matrix.objective.lists).items():
        lists[key] = [f"{value:g}" for value in values]
    _check_once(lists)


def _check_once(lists: Mapping[str, Sequence[str]]) -> None:
    """Raises UserInputError where something stands twice in one of these lists."""
    for key, labels in lists.items():
        twice = [label for label, count in Counter(labels).items() if count > 1]
        if twice:
            raise UserInputError(f"{key}: {', '.join(twice)} stands there more than once.")


def _check_models(cells: Sequence[PlannedCell]) -> None:
    """Raises UserInputError for two names of the same weights that are run in the same way."""
    called: dict[str, str] = {}
    for cell in cells:
        other = called.setdefault(cell.id, cell.model_label)
        if other != cell.model_label:
            raise UserInputError(
                f'models: "{other}" and "{cell.model_label}" are one model, run in one way, so '
                "their cells are the same: leave one of them out."
            )


def _asked_of(model: ModelChoice, tasks: Sequence[NamedTask]) -> list[NamedTask]:
    """The tasks that a model is asked, as it is asked them."""
    return [own for task in tasks if (own := task.asked_of(model.name))]


def _check_asked(matrix: Matrix, tasks: Sequence[NamedTask]) -> None:
    """Raises UserInputError for a task that no model of the matrix is asked."""
    for task in tasks:
        if not any(task.asked_of(model.name) for model in matrix.models):
            models = ", ".join(model.name for model in matrix.models)
            raise UserInputError(
                f'task "{task.label}" asks none of these models: {models}. It has prompts for '
                "models of its own alone."
            )


def _parent(
    method: NamedMethod, known: Mapping[str, tuple[str, str]]
) -> tuple[str, str] | tuple[None, None]:
    """Id of the cell whose scores a method starts from, of those known by label, and `scored_as`.

    Raises:
        UserInputError: if there is none of that label.
    """
    parent = method.method.parent
    if parent is None:
        return None, None
    if parent not in known:
        raise UserInputError(
            f'methods: "{method.label}" starts from the scores of "{parent}", '
            f"which has to stand before it; there are {', '.join(known)}."
        )
    return known[parent]


def _check_number(matrix: Matrix, grids: Sequence[MethodGrid]) -> None:
    """Raises UserInputError for more cells than could ever be computed or listed."""
    methods = sum(grid.size(matrix.grid == "alone") for grid in grids)
    shuffled = sum(grid.is_shuffled(matrix.controls) for grid in grids)
    methods += matrix.controls.draws + shuffled * matrix.controls.per_method
    lists = [*matrix.prompts.lists.values(), *matrix.objective.lists.values()]
    sizes = [len(matrix.models), len(matrix.tasks), len(matrix.seeds), *map(len, lists)]
    number = methods * prod(sizes)
    if number > MAX_CELLS:
        raise UserInputError(
            f"The matrix has up to {number} cells, more than {MAX_CELLS}: shorter lists are needed."
        )


def _takes_part(method: NamedMethod, matrix: Matrix, asked: Asked) -> bool:
    """Whether a method is computed for these values of the matrix's grids (see `expand`)."""
    kind = type(method.method)
    departures = method.departures + sum(
        getattr(chosen, name) != values[0]
        for grid, chosen in ((matrix.prompts, asked.prompts), (matrix.objective, asked.objective))
        for name, values in grid.lists.items()
        if name != "seed"  # other prompts of the same task repeat a cell, they do not change it
    )
    if kind.control and departures > method.departures:
        return False
    if matrix.grid == "alone" and departures > 1:
        return False
    return kind.trained or asked.objective.lambda_m == matrix.objective.lambda_m[0]
