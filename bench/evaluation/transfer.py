"""Evaluates an intervention on other tasks than its own (the paper's Fig. 5 and 6).

Only interventions that are not tied to positions can be taken there: dynamic scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bench.evaluation.evaluate import metric_row, strengths
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.split import respond
from bench.store.cells import Tensors
from bench.store.records import MetricRow, PromptRecord
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from methods.dyn_scalar import unsteered_scalars

TIED = "tied to the positions of its own task: not evaluated on others"


@dataclass
class Transferred:
    """What is stored of other tasks: their test prompts under the task's label as a split.

    `transfer.<label>.scalars` has shape (prompt, place, layer, position): alpha(h) at beta = 0;
    `transfer.<label>.positions` says which positions of the prompt these are.
    """

    metrics: list[MetricRow] = field(default_factory=list)
    tensors: Tensors = field(default_factory=dict)
    prompts: dict[str, list[PromptRecord]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate_elsewhere(
    subject: SubjectModel,
    intervention: Intervention,
    others: Mapping[str, PreparedTask],
    objective: Objective,
) -> Transferred:
    """Evaluates a trained intervention at beta = 1 on the test prompts of other tasks.

    Args:
        subject: the model.
        intervention: on the grid of its own task.
        others: tasks by label.
        objective: margin and weights of the cell.
    """
    found = Transferred()
    for label, task in others.items():
        moved = intervention.on(task.grid)
        if moved is None:
            found.notes = [TIED]
            continue
        test = task.splits["test"]
        split = replace(test, name=label)
        moved = moved.to(subject.device)
        response = respond(subject, split, moved, strengths([1.0]))
        found.metrics.append(metric_row(split, response, moved, objective, "one", 1.0))
        for name in ("beta", "ld", "kl", "p_answer", "p_foil"):
            found.tensors[f"split.{label}.{name}"] = getattr(response, name).numpy()
        if isinstance(moved, DynamicScaling):
            scalars = unsteered_scalars(subject, split.prompts, moved)
            found.tensors[f"transfer.{label}.scalars"] = scalars.cpu().numpy()
            found.tensors[f"transfer.{label}.positions"] = np.array(task.grid.positions)
        found.prompts[label] = task.prompt_records["test"]
    return found
