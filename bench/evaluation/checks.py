"""Checks of a method that no score depends on: sanity of its map, specificity of what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.provenance import Clock
from bench.evaluation.sanity import check_sanity
from bench.evaluation.specificity import measure_specificity
from bench.matrix.cells import PlannedCell
from bench.models.load import LoadedModel
from bench.store.cells import Tensors
from methods.core.intervention import Intervention
from methods.core.subject import SubjectModel
from methods.method import Method, Setting
from tasks.errors import message_of

Elsewhere = Mapping[str, PreparedTask | Exception]
"""Other tasks by label, or why they cannot be prepared."""


def check_cell(
    cell: PlannedCell,
    model: LoadedModel,
    subject: SubjectModel,
    task: PreparedTask,
    fit: tuple[Method, Setting],
    steering: tuple[Intervention, float],
    elsewhere: Elsewhere,
    clock: Clock,
) -> tuple[dict[str, Any], Tensors]:
    """Fields of the cell's record that say whether the map has to do with the model and what is
    asked, and what the intervention does elsewhere.

    Args:
        cell: says what is checked.
        model: as it was loaded.
        subject: the same model as methods see it.
        task: the cell's own.
        fit: the method and what surrounded its fit.
        steering: what was fitted, and the strength at which methods are compared.
        elsewhere: where it should do nothing.
        clock: is told how long each check takes.
    """
    results: dict[str, Any] = {}
    tensors: Tensors = {}
    method, around = fit
    if cell.stages.sanity:
        with clock("sanity"):
            results["sanity"], found = check_sanity(
                method, subject, task, cell.stages.sanity, around
            )
        tensors |= found
    if cell.stages.specificity:
        others = {at: one for at, one in elsewhere.items() if not isinstance(one, Exception)}
        tasks = {cell.task.label: task, **others}
        with clock("specificity"):
            results["specificity"], found = measure_specificity(
                subject, model, tasks, *steering, cell.stages.specificity
            )
        tensors |= found
    return results, tensors


def not_measured_on(elsewhere: Elsewhere) -> list[str]:
    """Notes on tasks that could not be prepared."""
    return [
        f"specificity was not measured on {label}: {message_of(why)}"
        for label, why in elsewhere.items()
        if isinstance(why, Exception)
    ]
