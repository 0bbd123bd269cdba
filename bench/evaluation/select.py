"""Chooses the hyperparameters of a trained method on a validation part of the train prompts.

Untrained scores get their strength tuned, so trained methods may get a few settings tried: each is
fitted on a part of the train entities and judged on the others, by E_0 at one price there
(`bench.evaluation.price`); of equal ones the cheapest is taken, then the first. The method is then
fitted on all of train with the chosen setting. Every trained method gets the same settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from bench.evaluation.attribution import fit
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch
from bench.evaluation.split import Split
from bench.matrix.stages import Candidate
from bench.store.records import SelectedRow
from methods.core.subject import SubjectModel
from methods.method import Method, Setting
from tasks.errors import UserInputError

VALIDATION = 3
"""One of so many train entities is for validation, and one at least."""


def select(
    method: Method,
    subject: SubjectModel,
    task: PreparedTask,
    setting: Setting,
    candidates: Sequence[Candidate],
    price: float,
) -> tuple[Method, Setting, list[SelectedRow]]:
    """Tries settings of a trained method and gives the best one.

    Args:
        method: as the matrix has it; what a candidate does not name stays as it is.
        subject: the model.
        task: of which the train split alone is used.
        setting: objective and seed of the cell.
        candidates: the settings.
        price: at which they are judged, in nats.

    Returns:
        The method and its setting with the chosen values, and a row a candidate.

    Raises:
        UserInputError: for a setting that the method does not have, and for train prompts of one
            entity.
    """
    fitted_on, judged_on = _parts(task)
    tried = []
    for candidate in candidates:
        changed, weights = _changed(method, setting, candidate)
        _, found = fit(changed, subject, fitted_on.prompts, task.grid, weights)
        strength = PriceSearch(subject, judged_on, found, both_signs=False).at(price)
        row = SelectedRow(
            settings=candidate.model_dump(exclude_none=True),
            n_prompts=len(judged_on.prompts),
            **strength.model_dump(include={"price", "beta", "paid", "E_0"}),
        )
        tried.append((row, changed, weights))
    best = max(tried, key=lambda one: (one[0].E_0, -one[0].paid))
    rows = [row.model_copy(update={"chosen": row is best[0]}) for row, _, _ in tried]
    return best[1], best[2], rows


def _parts(task: PreparedTask) -> tuple[Split, Split]:
    """The train prompts to fit on and to judge on, which have no entity in common."""
    of_prompt = [pair.entity for pair in task.encoded.batches["train"].pairs]
    entities = list(dict.fromkeys(of_prompt))
    if len(entities) < 2:
        raise UserInputError(
            f"select: the {len(of_prompt)} train prompts have one entity, and none is left to "
            "judge settings by; prompts: {train: ...} of at least two are needed."
        )
    held_out = set(entities[-max(1, len(entities) // VALIDATION) :])
    judged = [row for row, entity in enumerate(of_prompt) if entity in held_out]
    fitted = [row for row, entity in enumerate(of_prompt) if entity not in held_out]
    return task.train.take(fitted), task.train.take(judged)


def _changed(method: Method, setting: Setting, candidate: Candidate) -> tuple[Method, Setting]:
    """The method and its setting with a candidate's values."""
    given: dict[str, Any] = candidate.model_dump(exclude_none=True)
    weights = {name: given.pop(name) for name in ("lambda_m", "lambda_f") if name in given}
    known = {field.name for field in fields(method)}  # type: ignore[arg-type]
    if missing := sorted(set(given) - known):
        raise UserInputError(
            f'select: {type(method).__name__} has no setting "{missing[0]}"; '
            f"it has {', '.join(sorted(known))}."
        )
    changed: Any = method
    objective = replace(setting.objective, **weights)
    return replace(changed, **given), replace(setting, objective=objective)
