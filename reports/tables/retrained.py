"""Scalars trained anew at a method's strongest points: do others steer as well, trained alike?"""

from typing import Any

from pandas import DataFrame

from reports.load import Results
from reports.outcomes import Outcome, main_split
from reports.retrained import (
    LAYERS,
    POSITIONS,
    RANDOM,
    SUPPORTS,
    compared_with_support,
    numbers_of_points,
    outcomes_of_support,
)
from reports.statistics import interval
from reports.tables.paired import frame_of
from reports.tables.verdicts import against_controls

LOCALISES_AMONG = {
    RANDOM: "better than random places",
    POSITIONS: "localises in position",
    LAYERS: "localises in layer",
}
"""What a method is said to do that beats all draws of a kind of support."""
COLUMNS = (
    *("model", "task", "method", "k", "n_cells", "n_prompts", "E_0", "low", "high", "paid"),
    *("E_0_unsteered", "share", "E_0_random", "against_random"),
    *("E_0_other_positions", "in_position", "E_0_other_layers", "in_layer"),
)
VERDICTS = {RANDOM: "against_random", POSITIONS: "in_position", LAYERS: "in_layer"}


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and k, largest E_0 first, with the columns of COLUMNS.

    `E_0` is that of scalars trained at the method's k strongest points alone, on test at one price
    (`bench.evaluation.retrained`; low and high: 95 % over prompts), `paid` what it costs there;
    `E_0_random`, `E_0_other_positions` and `E_0_other_layers` are means over the draws of what is
    compared with. Verdicts are those of `reports.tables.verdicts` against controls: the paired test
    and the rank among the draws. Raises UserInputError for unknown names.
    """
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        for k in numbers_of_points(results, *pair):
            of_k = _rows(results, *pair, k)
            rows += sorted(of_k, key=lambda row: -row["E_0"])
    return frame_of(rows, COLUMNS)


def _rows(results: Results, model: str, task: str, k: int) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for support in SUPPORTS:
        known = outcomes_of_support(results, model, task, k, support)
        compared = compared_with_support(results, model, task, k, support)
        for label, one in known.items():
            if one.control:
                continue
            row = found.setdefault(
                label, {"model": model, "task": task, "method": label, "k": k, **_reached(one)}
            )
            beside = known.get(support if support == RANDOM else f"{support}[of={label}]")
            row[f"E_0_{support.replace(' ', '_')}"] = beside.mean if beside else None
            row[VERDICTS[support]] = against_controls(
                one, known, compared, LOCALISES_AMONG[support]
            )
    return list(found.values())


def _reached(one: Outcome) -> dict[str, Any]:
    low, high = interval(one.per_prompt, one.weights)
    split = main_split(one.records)
    unsteered = next(row.E_0_unsteered for row in one.records[0].metrics if row.split == split)
    return {
        **{"n_cells": len(one.records), "n_prompts": len(one.prompts)},
        **{"E_0": one.mean, "low": low, "high": high, "paid": one.paid},
        "E_0_unsteered": unsteered,
        "share": 1 - one.mean / unsteered if unsteered else None,
    }
