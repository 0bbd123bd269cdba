"""The cells of each method, where one method ran with several settings, seeds or draws."""

from collections.abc import Sequence

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
        if one.cell in labels:  # it failed
            label = labels[one.cell]
        else:
            alike = {labels[record.id] for record in records if _is_of(one, record)}
            label = alike.pop() if len(alike) == 1 else _own_label(one)
        found.setdefault(label, []).append(one)
    return found


def _varied(one: Missing) -> dict[str, object]:
    return {key: value for key, value in one.varied.items() if key != OTHER_DRAW}


def _is_of(one: Missing, record: CellRecord) -> bool:
    if record.method != one.method or record.status != "done":
        return False
    parts = {key: key.partition(".")[::2] for key in _varied(one)}
    return all(
        (record.settings.get(part) or {}).get(name) == one.varied[key]
        for key, (part, name) in parts.items()
    )


def _own_label(one: Missing) -> str:
    varied = ", ".join(f"{key.rpartition('.')[2]}={v:g}" for key, v in _varied(one).items())
    return f"{one.method} · {varied}" if varied else str(one.method)
