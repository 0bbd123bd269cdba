"""The cells of each method, where one method ran with several settings, seeds or draws."""

from collections.abc import Sequence
from typing import Any

from bench.store.records import CellRecord
from bench.store.tidy import variant_labels
from reports.load import Results
from reports.missing import Missing

OTHER_DRAW = "prompts.seed"
"""Cells that differ in it alone are of one method, on other draws of prompts."""


def group_cells(records: Sequence[CellRecord]) -> dict[str, list[CellRecord]]:
    """Return the records of one model and task by label, each group by seed and draw."""
    labels = variant_labels(records)
    groups: dict[str, list[CellRecord]] = {}
    for record in records:
        groups.setdefault(labels[record.id], []).append(record)
    return {
        label: sorted(group, key=lambda record: (record.seed, record.draw))
        for label, group in groups.items()
    }


def missing_by_label(results: Results, model: str, task: str) -> dict[str, list[Missing]]:
    """Return by label what of the matrix has no result on a model and task.

    A cell that was never computed goes with the cells of its method that have its values in the
    matrix's grids; where there are none it is called by its method and these values.
    """
    records = results.of(model, task)
    labels = variant_labels(records)
    found: dict[str, list[Missing]] = {}
    for one in results.missing:
        if (one.model, one.task) != (model, task) or not one.counts or one.method is None:
            continue
        varied = {key: value for key, value in one.varied.items() if key != OTHER_DRAW}
        alike = {
            labels[record.id]
            for record in records
            if (record.method, record.status) == (one.method, "done") and _has(record, varied)
        }
        label = labels.get(one.cell)  # it failed
        if label is None and len(alike) == 1:
            (label,) = alike
        elif label is None:
            values = [f"{key.rpartition('.')[2]}={value:g}" for key, value in varied.items()]
            label = " · ".join(filter(None, (one.method, ", ".join(values))))
        found.setdefault(label, []).append(one)
    return found


def _has(record: CellRecord, varied: dict[str, Any]) -> bool:
    """Whether a cell has these values of a matrix's grids, such as `objective.lambda_f`."""
    parts = ((*key.partition(".")[::2], value) for key, value in varied.items())
    return all((record.settings.get(part) or {}).get(key) == value for part, key, value in parts)
