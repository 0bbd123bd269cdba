"""The cells of each method, where one method ran with several settings, seeds or draws."""

from collections.abc import Sequence

from bench.records import CellRecord
from bench.table import variant_labels


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
