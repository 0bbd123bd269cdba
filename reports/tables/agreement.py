"""Kendall's tau between every two methods, as the run stores it."""

from typing import TYPE_CHECKING

from reports.load import Results

if TYPE_CHECKING:
    from pandas import DataFrame


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
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
    return frame[keep].reset_index(drop=True)
