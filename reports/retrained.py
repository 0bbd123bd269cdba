"""Scalars trained anew at a method's strongest points and at others, prompt by prompt."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results, once, parent_of
from reports.outcomes import Outcome, Values, main_split, outcome_of, terms
from reports.tables.paired import rows_of

RANDOM, POSITIONS, LAYERS = "random", "other positions", "other layers"
SUPPORTS = (RANDOM, POSITIONS, LAYERS)
"""What a method's strongest points are compared with: the strongest of Random's draws, and as many
points of the same sites and layers, and of the same sites and positions."""


@once
def numbers_of_points(results: Results, model: str, task: str) -> list[int]:
    """Return the k at which some method's cell was trained anew, and stores it by prompt."""
    records = [one for one in results.of(model, task) if not one.control]
    ks = {row.k for record in records for row in record.retrained}
    return sorted(k for k in ks if outcomes_of_support(results, model, task, k, POSITIONS))


@once
def outcomes_of_support(
    results: Results, model: str, task: str, k: int, support: str
) -> dict[str, Outcome]:
    """Return by label what is reached at every method's k strongest points, and at a support.

    Those of a support are controls: `random`, shared by all methods, or `other layers[of=X]`.
    """
    split = main_split(results.of(model, task))
    found: dict[str, Outcome] = {}
    for label, group in group_cells(results.of(model, task)).items():
        if not group[0].control:
            found |= _of(results, group, k, "strongest", label, label, split)
            if support != RANDOM:
                name = f"{support}[of={label}]"
                found |= _of(results, group, k, support, name, name, split)
        elif support == RANDOM and parent_of(group[0]) is None:
            found |= _of(results, group, k, "strongest", label, RANDOM, split)
    return found


@once
def compared_with_support(
    results: Results, model: str, task: str, k: int, support: str
) -> list[dict[str, Any]]:
    """Return the rows of `reports.tables.paired` of `outcomes_of_support`."""
    known = outcomes_of_support(results, model, task, k, support)
    return rows_of(results, model, task, known, all_points=False)


def _of(
    results: Results,
    group: Iterable[CellRecord],
    k: int,
    support: str,
    label: str,
    method: str,
    split: str,
) -> dict[str, Outcome]:
    """The outcome of some cells at one support, every draw as a cell; nothing where none has it."""
    records, values = [], []
    for record in group:
        for row, of_row in _rows(results, record, split, k, support):
            changes: dict[str, Any] = {"method": method, "control": support != "strongest"}
            if changes["control"]:
                changes |= {"draw": row, "settings": {}}
            records.append(record.model_copy(update={} if record.control else changes))
            values.append(of_row)
    return {label: outcome_of(label, records, values, split)} if records else {}


def _rows(
    results: Results, record: CellRecord, split: str, k: int, support: str
) -> Iterable[tuple[int, Values]]:
    """The draw and the terms of E_0 and F (2, prompt) of a cell's rows with that k and support."""
    tensors = results.small_tensors(record.id) if record.retrained else {}
    ld, kl = (tensors.get(f"retrained.{name}") for name in ("ld", "kl"))
    if ld is None or kl is None or len(ld) != len(record.prompts.get(split, [])):
        return
    values = np.asarray(terms(ld, kl))
    for place, row in enumerate(record.retrained):
        if (row.k, row.support) == (k, support):
            yield row.draw, values[:, :, place]
