"""Circuit faithfulness: areas under its curve, and tests against random circuits."""

from typing import Any

from pandas import DataFrame

from reports.circuits import AREAS, ORDERS, Circuits, circuits
from reports.load import Results
from reports.present import strings

COLUMNS = (
    *("model", "task", "method", "control", "order", "n_cells", "n_prompts", "n_nodes"),
    *(f"{name}{end}" for name in AREAS for end in ("", "_low", "_high")),
    *("n_tested", "n_draws", "sufficient", "p_sufficient", "necessary", "p_necessary"),
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and order of its nodes, largest CPR first, with the columns of COLUMNS.

    `CPR` is the area under f over the share of nodes kept, `CMD` that under |1 - f|; `_log` are
    means over log k; `_low` and `_high` are 95 % over prompts. Of `n_draws` random circuits of
    `n_tested` nodes, as many as `sufficient` come less near f = 1, and without as many as
    `necessary` f stays nearer to 1 (means over cells, p of the first); p is of the binomial test
    that more than 0.9 of all random circuits do. Raises UserInputError for unknown names.
    """
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        of_pair = [_row(*pair, one) for order in ORDERS for one in circuits(results, *pair, order)]
        rows += sorted(of_pair, key=lambda row: (ORDERS.index(row["order"]), -row["CPR"]))
    return DataFrame(rows, columns=list(COLUMNS))


def _row(model: str, task: str, one: Circuits) -> dict[str, Any]:
    first = one.first
    curve = first.curve(one.order)
    row: dict[str, Any] = {
        **{"model": model, "task": task, "method": one.label, "control": one.control},
        **{"order": one.order, "n_cells": len(one.records), "n_prompts": one.seen.shape[1]},
        **{"n_nodes": first.n_nodes, "n_tested": first.tested_k, "n_draws": first.draws},
        **{name: getattr(curve, name) for name in ("sufficient", "p_sufficient")},
        **{name: getattr(curve, name) for name in ("necessary", "p_necessary")},
    }
    for name in AREAS:
        low, high = one.area_interval(name)
        row |= {name: one.area(name), f"{name}_low": low, f"{name}_high": high}
    return row


def shown(frame: DataFrame) -> DataFrame:
    """Return the table as strings; of the areas over log k without their intervals."""
    kept = [name for name in frame.columns if not name.endswith(("_log_low", "_log_high"))]
    return strings(frame[kept])
