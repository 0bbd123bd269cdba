"""Kendall's tau between every two methods, as the run stores it and averaged over tasks."""

import numpy as np
from pandas import DataFrame

from reports.load import Results
from reports.statistics import interval


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a pair of methods, controls left out.

    Columns: model, task, method_a, method_b, tau, low, high (NaN where undefined), interval_from
    (what the interval resamples), n_points, status. Raises UserInputError for a model or task that
    the run does not have.
    """
    controls = {
        (record.model, record.task, record.method)
        for record in results.matching(model, task)
        if record.control
    }
    frame = results.agreement
    keep = [
        model in (None, row.model)
        and task in (None, row.task)
        and not controls & {(row.model, row.task, name) for name in (row.method_a, row.method_b)}
        for row in frame.itertuples()
    ]
    return frame[np.array(keep, dtype=bool)].reset_index(drop=True)


def pooled(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a model and pair of methods: tau averaged over the tasks where it is defined.

    Only models with two tasks or more. Columns as `table`, without task and with n_tasks; the
    interval draws tasks again. Raises UserInputError for unknown names.
    """
    frame = table(results, model=model, task=task)
    rows = []
    for name, of_model in frame.groupby("model", sort=False):
        if of_model["task"].nunique() < 2:
            continue
        for (a, b), pair in of_model.groupby(["method_a", "method_b"], sort=False):
            taus = pair["tau"].dropna().to_numpy(dtype=float)
            low, high = interval(taus)
            rows.append(
                {
                    **{"model": name, "method_a": a, "method_b": b, "n_tasks": len(taus)},
                    "tau": float(taus.mean()) if len(taus) else float("nan"),
                    **{"low": low, "high": high, "interval_from": "tasks"},
                    "status": "ok" if len(taus) else "undefined on every task",
                }
            )
    columns = ("model", "method_a", "method_b", "n_tasks", "tau", "low", "high")
    return DataFrame(rows, columns=[*columns, "interval_from", "status"])
