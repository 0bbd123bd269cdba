"""From records to the tidy table: one row a cell x split x beta kind. Torch-free."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bench.records import CellRecord, MetricRow, strict_json

if TYPE_CHECKING:
    from pandas import DataFrame

_TEXT = ("cell", "model", "task", "method", "status")
_SETTINGS = {
    "trained": "boolean",
    "control": "boolean",
    "draw": "Int64",
    "seed": "Int64",
}
_COLUMN_TYPES: Mapping[object, str] = {int: "Int64", float: "float64"}
_METRICS = {
    name: _COLUMN_TYPES.get(field.annotation, "string")
    for name, field in MetricRow.model_fields.items()
}
_CELL = {
    "beta_star": "float64",
    "minimality_count": "Int64",
    "minimality_meaningful": "boolean",
    "minimality_unit": "string",
    "n_parameters": "Int64",
    "smallest_k": "Int64",
    "seconds": "float64",
    "seconds_fit": "float64",
    "seconds_tune": "float64",
    "seconds_evaluate": "float64",
    "forward_rows": "Int64",
    "backward_rows": "Int64",
    "peak_memory_bytes": "Int64",
    "error_kind": "string",
    "error": "string",
    "settings": "string",
}
COLUMNS: Mapping[str, str] = {**dict.fromkeys(_TEXT, "string"), **_SETTINGS, **_METRICS, **_CELL}


def tidy_table(records: Iterable[CellRecord]) -> "DataFrame":
    """Return the table of all `records`, with the columns and types of `COLUMNS` even when empty.

    What a row does not have is missing (NA; NaN in float columns). `settings` is JSON text.
    """
    from pandas import DataFrame  # half a second: only for those who want the table

    rows: list[dict[str, Any]] = []
    for record in records:
        cell = _cell_columns(record)
        rows += [cell | row.model_dump() for row in record.metrics] or [cell]
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return DataFrame(columns).astype(dict(COLUMNS))


def _cell_columns(record: CellRecord) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "cell": record.id,
        **{name: getattr(record, name) for name in ("model", "task", "method", "status")},
        **{name: getattr(record, name) for name in _SETTINGS},
        "beta_star": record.beta.star if record.beta else None,
        "settings": json.dumps(strict_json(record.settings), sort_keys=True),
    }
    if record.minimality is not None:
        minimality = record.minimality
        columns["minimality_count"] = minimality.count if minimality.meaningful else None
        columns["minimality_meaningful"] = minimality.meaningful
        columns["minimality_unit"] = minimality.unit
        columns["n_parameters"] = minimality.n_parameters
        columns["smallest_k"] = minimality.smallest_k
    if record.error is not None:
        columns["error_kind"], columns["error"] = record.error.kind, record.error.message
    seconds = record.provenance.get("seconds") or {}
    if seconds:
        columns["seconds"] = sum(seconds.values())
        columns |= {f"seconds_{stage}": value for stage, value in seconds.items()}
    columns |= record.provenance.get("passes") or {}
    columns["peak_memory_bytes"] = record.provenance.get("peak_memory_bytes")
    return columns
