"""Cells without a result: what is missing is named."""

from typing import TYPE_CHECKING

from reports.load import Results

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("cell", "model", "task", "method", "seed", "draw", "reason")


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a cell that failed or cannot be read, with the columns of `COLUMNS`.

    Of a cell that cannot be read only its id is known; it is listed where no model and no task is
    asked for. Raises UserInputError for a model or task that the run does not have.
    """
    from pandas import DataFrame

    rows: list[dict[str, object]] = [
        {
            **{"cell": record.id},
            **{name: getattr(record, name) for name in COLUMNS[1:-1]},
            "reason": f"{record.error.kind}: {record.error.message}",
        }
        for record in results.matching(model, task)
        if record.error is not None
    ]
    if model is None and task is None:
        rows += [{"cell": cell, "reason": why} for cell, why in results.unreadable.items()]
    return DataFrame(rows, columns=list(COLUMNS), dtype=object)
