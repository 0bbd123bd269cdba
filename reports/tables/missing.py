"""Cells that a report has no numbers of: what is missing is named."""

from pandas import DataFrame

from reports.load import Results
from reports.missing import by_status

COLUMNS = ("model", "task", "method", "status", "seed", "draw", "cell", "reason")


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a cell without a result, with the columns of `COLUMNS`.

    `status` is failed, damaged (its file or its tensors are not what was written), set aside (it
    was damaged, and moved), not computed (the matrix has it, the run does not), or of another
    matrix (stored, but no cell of this one). Where only the id of a cell is known, it is listed
    where no model and no task is asked for. Raises UserInputError for a model or task that the run
    does not have.
    """
    results.check(model=model, task=task)
    rows = [
        {name: getattr(one, name) for name in COLUMNS}
        for _, cells in by_status(results.missing)
        for one in cells
        if model in (None, one.model) and task in (None, one.task)
    ]
    return DataFrame(rows, columns=list(COLUMNS), dtype=object)
