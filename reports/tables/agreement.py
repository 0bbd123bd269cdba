"""How far every two methods agree, as the run stores it and averaged over tasks.

On which way a point works: tau, Kendall's of the scores. On where the model does the task, whatever
the sign: size_tau, the same of |score|.
"""

import numpy as np
from pandas import DataFrame, Series

from bench.agreement.table import COLUMNS
from reports.load import Results
from reports.statistics import interval


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a pair of methods, controls left out.

    Columns: `bench.agreement.table.COLUMNS`; what an older run does not store is NaN. Raises
    UserInputError for a model or task that the run does not have.
    """
    controls = {
        (record.model, record.task, record.method)
        for record in results.of(model, task)
        if record.control
    }
    frame = results.agreement.reindex(columns=list(COLUMNS))
    keep = [
        model in (None, row.model)
        and task in (None, row.task)
        and not controls & {(row.model, row.task, name) for name in (row.method_a, row.method_b)}
        for row in frame.itertuples()
    ]
    return frame[np.array(keep, dtype=bool)].reset_index(drop=True)


def pooled(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a model and pair of methods: tau and size_tau averaged over tasks.

    Over those where they are defined (`n_tasks` and `n_tasks_size`); only models with two tasks or
    more. Columns as `table`, without task; the intervals draw tasks again. Raises UserInputError
    for unknown names.
    """
    frame = table(results, model=model, task=task)
    rows = []
    for name, of_model in frame.groupby("model", sort=False):
        if of_model["task"].nunique() < 2:
            continue
        for (a, b), pair in of_model.groupby(["method_a", "method_b"], sort=False):
            n_tasks, tau, low, high = _over_tasks(pair["tau"])
            n_tasks_size, size_tau, size_low, size_high = _over_tasks(pair["size_tau"])
            rows.append(
                {
                    **{"model": name, "method_a": a, "method_b": b, "n_tasks": n_tasks},
                    **{"tau": tau, "low": low, "high": high, "interval_from": "tasks"},
                    "status": "ok" if n_tasks else "undefined on every task",
                    **{"n_tasks_size": n_tasks_size, "size_tau": size_tau},
                    **{"size_low": size_low, "size_high": size_high},
                }
            )
    columns = ("model", "method_a", "method_b", "n_tasks", "tau", "low", "high", "interval_from")
    sizes = ("n_tasks_size", "size_tau", "size_low", "size_high")
    return DataFrame(rows, columns=[*columns, "status", *sizes])


def _over_tasks(taus: Series) -> tuple[int, float, float, float]:
    """On how many tasks tau is defined, and its mean over those with its interval."""
    known = taus.dropna().to_numpy(dtype=float)
    return len(known), float(known.mean()) if len(known) else float("nan"), *interval(known)
