"""Scalars trained anew at a method's strongest points: do others steer as well, trained alike?"""

from collections.abc import Iterable
from typing import Any

from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results, of_pairs, once, parent_of, unsteered_of
from reports.outcomes import Outcome, main_split, outcome_of, stored_terms
from reports.statistics import interval
from reports.tables.paired import rows_of
from reports.tables.verdicts import against_controls

RANDOM, POSITIONS, LAYERS = "random", "other positions", "other layers"
SUPPORTS = {
    RANDOM: ("against_random", "better than random places"),
    POSITIONS: ("in_position", "localises in position"),
    LAYERS: ("in_layer", "localises in layer"),
}
"""What a method's strongest points are compared with: the strongest of Random's draws, and as many
points of the same sites and layers, and of the same sites and positions. With each the column of
its verdict, and what a method is said to do that beats all draws."""


@of_pairs
def table(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    """Return a row a method and k, largest E_0 first.

    `E_0` is that of scalars trained at the method's k strongest points alone, on test at one price
    (`bench.evaluation.retrained`; low and high: 95 % over prompts), `paid` what it costs there;
    `E_0_random`, `E_0_other_positions` and `E_0_other_layers` are means over the draws of what is
    compared with. Verdicts are those of `reports.tables.verdicts` against controls: the paired test
    and the rank among the draws. Raises UserInputError for unknown names.
    """
    return [
        row
        for k in numbers_of_points(results, model, task)
        for row in sorted(_methods(results, model, task, k), key=lambda row: -row["E_0"])
    ]


@once
def _methods(results: Results, model: str, task: str, k: int) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for support, (column, beats) in SUPPORTS.items():
        known = outcomes_of_support(results, model, task, k, support)
        compared = rows_of(results, model, task, known, all_points=False)
        for label, one in known.items():
            if one.control:
                continue
            if label not in found:
                low, high = interval(one.per_prompt, one.weights)
                unsteered = unsteered_of(one.records[0], main_split(one.records))
                found[label] = {
                    **{"method": label, "k": k},
                    **{"n_cells": len(one.records), "n_prompts": len(one.prompts)},
                    **{"E_0": one.mean, "low": low, "high": high, "paid": one.paid},
                    "E_0_unsteered": unsteered,
                    "share": 1 - one.mean / unsteered if unsteered else None,
                }
            row = found[label]
            beside = known.get(support if support == RANDOM else f"{support}[of={label}]")
            row[f"E_0_{support.replace(' ', '_')}"] = beside.mean if beside else None
            row[column] = against_controls(one, known, compared, beats)
    return list(found.values())


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
            found |= _of(results, group, k, "strongest", label, split)
            if support != RANDOM:
                name = f"{support}[of={label}]"
                found |= _of(results, group, k, support, name, split)
        elif support == RANDOM and parent_of(group[0]) is None:
            found |= _of(results, group, k, "strongest", label, split)
    return found


def _of(
    results: Results, group: Iterable[CellRecord], k: int, support: str, label: str, split: str
) -> dict[str, Outcome]:
    """The outcome of some cells at one support, every draw as a cell; nothing where none has it."""
    records, values = [], []
    for record in group:
        found = stored_terms(results, record, "retrained", split) if record.retrained else None
        for place, row in enumerate(record.retrained):
            if found is None or (row.k, row.support) != (k, support):
                continue
            changes: dict[str, Any] = {"method": label, "control": support != "strongest"}
            if changes["control"]:
                changes |= {"draw": row.draw, "settings": {}}
            records.append(record.model_copy(update={} if record.control else changes))
            values.append(found[:, :, place])
    return {label: outcome_of(label, records, values, split)} if records else {}
