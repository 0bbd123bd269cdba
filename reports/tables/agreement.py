"""How far every two methods agree, as the run stores it and averaged over tasks.

On which way a point works: tau, Kendall's of the scores. On where the model does the task, whatever
the sign: size_tau, the same of |score|.
"""

from typing import Any

import numpy as np
from pandas import DataFrame, Series

from bench.agreement.table import COLUMNS
from reports.load import Results, of_part
from reports.statistics import interval


@of_part
def table(results: Results) -> DataFrame:
    """Return a row a pair of methods, controls left out.

    Columns: `bench.agreement.table.COLUMNS`; what an older run does not store is NaN. Raises
    UserInputError for a model or task that the run does not have.
    """
    controls = {(one.model, one.task, one.method) for one in results.records if one.control}
    frame = results.agreement.reindex(columns=list(COLUMNS))
    keep = [
        not controls & {(row.model, row.task, name) for name in (row.method_a, row.method_b)}
        for row in frame.itertuples()
    ]
    return frame[np.array(keep, dtype=bool)].reset_index(drop=True)


@of_part
def pooled(results: Results) -> DataFrame:
    """Return a row a model and pair of methods: tau and size_tau averaged over tasks.

    Over those where they are defined (`n_tasks` and `n_tasks_size`); only models with two tasks or
    more. Columns as `table`, without task; the intervals draw tasks again. Raises UserInputError
    for unknown names.
    """
    rows: list[dict[str, Any]] = []
    for name, of_model in table(results).groupby("model", sort=False):
        if of_model["task"].nunique() < 2:
            continue
        for (a, b), pair in of_model.groupby(["method_a", "method_b"], sort=False):
            n_tasks, *which_way = _over_tasks(pair["tau"])
            n_tasks_size, *where = _over_tasks(pair["size_tau"])
            rows.append(
                {
                    **{"model": name, "method_a": a, "method_b": b, "n_tasks": n_tasks},
                    **dict(zip(("tau", "low", "high"), which_way, strict=True)),
                    "interval_from": "tasks",
                    "status": "ok" if n_tasks else "undefined on every task",
                    "n_tasks_size": n_tasks_size,
                    **dict(zip(("size_tau", "size_low", "size_high"), where, strict=True)),
                }
            )
    return DataFrame(rows)


def _over_tasks(taus: Series) -> tuple[int, float, float, float]:
    """On how many tasks tau is defined, and its mean over those with its interval."""
    known = taus.dropna().to_numpy(dtype=float)
    return len(known), float(known.mean()) if len(known) else float("nan"), *interval(known)
