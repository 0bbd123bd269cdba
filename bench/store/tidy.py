"""From records to the tidy table: one row a cell x split x beta kind. Torch-free.

Every hyperparameter is a column, called as in the settings: `prompts.train`, `objective.margin`,
`method.learning_rate` ...
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.store.records import CellRecord, MetricRow
from bench.store.schema import strict_json

if TYPE_CHECKING:
    from pandas import DataFrame

_TEXT = ("cell", "model", "task", "method", "status")
_SETTINGS = {
    "trained": "boolean",
    "control": "boolean",
    "draw": "Int64",
    "seed": "Int64",
}
HYPERPARAMETERS = {
    "prompts.train": "Int64",
    "prompts.seed": "Int64",
    "objective.margin": "float64",
    "objective.lambda_f": "float64",
    "objective.lambda_m": "float64",
}
_RUN_DEPENDENT = {"seed", "draw", "parent"}
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
    "seconds_sparsity": "float64",
    "sparsity_area": "float64",
    "sanity_rho": "float64",
    "sanity_size_rho": "float64",
    "sanity_answers_rho": "float64",
    "map_changes": "string",
    "ld_change_elsewhere": "float64",
    "ld_change_neutral": "float64",
    "kl_elsewhere": "float64",
    "kl_neutral": "float64",
    "forward_rows": "Int64",
    "backward_rows": "Int64",
    "peak_memory_bytes": "Int64",
    "error_kind": "string",
    "error": "string",
    "settings": "string",
}
COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(_TEXT, "string"),
    **_SETTINGS,
    **HYPERPARAMETERS,
    **_METRICS,
    **_CELL,
}


def tidy_table(records: Iterable[CellRecord]) -> "DataFrame":
    """Return the table of all `records`, with the columns and types of `COLUMNS` even when empty.

    Behind them stands one column `method.<setting>` for every setting that a method of the table
    has. What a row does not have is missing (NA; NaN in float columns). `settings` is JSON text,
    which has them all.
    """
    from pandas import DataFrame  # half a second: only for those who want the table

    rows: list[dict[str, Any]] = []
    for record in records:
        cell = _cell_columns(record)
        rows += [cell | row.model_dump() for row in record.metrics] or [cell]
    others = sorted({name for row in rows for name in row}.difference(COLUMNS))
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    columns |= {name: _of_one_kind([row.get(name) for row in rows]) for name in others}
    return DataFrame(columns).astype(dict(COLUMNS))


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Return the values of a column, as JSON text where they are not all of one kind.

    Methods of different people may have settings of one name.
    """
    kinds = {_kind(value) for value in values if value is not None}
    if kinds <= {"number"} or kinds <= {"text"} or kinds <= {"truth"}:
        return values
    return [
        value if value is None or isinstance(value, str) else json.dumps(strict_json(value))
        for value in values
    ]


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def variant_labels(records: Sequence[CellRecord]) -> dict[str, str]:
    """Return the label of every cell id of one model and task.

    Equal for cells that differ in seed, draw and draw of prompts alone: who compares cells of one
    label prompt by prompt has to see which prompts each had. It is the record's `method`; where
    cells of one method differ in settings (other than seed and draw), what differs is added:
    `activ_scalar · lambda_f=0, lambda_m=0.001`.
    """
    labels: dict[str, str] = {}
    groups: dict[str, list[CellRecord]] = {}
    for record in records:
        groups.setdefault(record.method, []).append(record)
    for method, group in groups.items():
        flat = {record.id: flat_settings(record.settings) for record in group}
        finished = [flat[record.id] for record in group if record.status == "done"]
        keys = sorted({key for settings in finished for key in settings})
        differing = [key for key in keys if len({one.get(key) for one in finished}) > 1]
        names = _short(differing)
        for record in group:
            own = flat[record.id]
            found = [f"{names[key]}={own[key]}" for key in differing if key in own]
            labels[record.id] = " · ".join([method, ", ".join(found)]) if found else method
    return labels


def _short(keys: Sequence[str]) -> dict[str, str]:
    """The last part of every dotted key, or all of it where two keys share their last part."""
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def flat_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what can make two cells of one method differ, as text by dotted key.

    Seeds (of prompts too), draws and parents are left out.
    """
    return dict(_flatten(settings))


def _flatten(settings: object, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield (dotted key, text) of every setting."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key not in _RUN_DEPENDENT:
                yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(settings, float):
        yield prefix, f"{settings:g}"
    else:
        yield prefix, json.dumps(strict_json(settings)).strip('"')


def _cell_columns(record: CellRecord) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "cell": record.id,
        **{name: getattr(record, name) for name in ("model", "task", "method", "status")},
        **{name: getattr(record, name) for name in _SETTINGS},
        "beta_star": record.beta.star if record.beta else None,
        "settings": json.dumps(strict_json(record.settings), sort_keys=True),
        **_hyperparameters(record.settings),
    }
    if record.minimality is not None:
        minimality = record.minimality
        columns["minimality_count"] = minimality.count if minimality.meaningful else None
        columns["minimality_meaningful"] = minimality.meaningful
        columns["minimality_unit"] = minimality.unit
        columns["n_parameters"] = minimality.n_parameters
        columns["smallest_k"] = minimality.smallest_k
    if record.sparsity is not None:
        columns["sparsity_area"] = record.sparsity.area
    columns |= _checks(record)
    if record.error is not None:
        columns["error_kind"], columns["error"] = record.error.kind, record.error.message
    seconds = record.provenance.get("seconds") or {}
    if seconds:
        columns["seconds"] = sum(seconds.values())
        columns |= {f"seconds_{stage}": value for stage, value in seconds.items()}
    columns |= record.provenance.get("passes") or {}
    columns["peak_memory_bytes"] = record.provenance.get("peak_memory_bytes")
    return columns


def _checks(record: CellRecord) -> dict[str, Any]:
    """Of the map with all weights permuted and of other answers, and of prompts elsewhere."""
    found: dict[str, Any] = {}
    if record.sanity is not None:
        found["map_changes"] = record.sanity.changes
        if (row := record.sanity.deepest) is not None:
            found |= {"sanity_rho": row.rho, "sanity_size_rho": row.size_rho}
        if (row := record.sanity.answers) is not None:
            found["sanity_answers_rho"] = row.rho
    if record.specificity is not None:
        for name, kind in (("elsewhere", "task"), ("neutral", "neutral")):
            found[f"ld_change_{name}"] = record.specificity.mean("ld_change", kind)
            found[f"kl_{name}"] = record.specificity.mean("kl", kind)
    return found


def _hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `HYPERPARAMETERS` and one for every setting of the method."""
    found = {}
    for name in HYPERPARAMETERS:
        part, _, key = name.partition(".")
        found[name] = _part(settings, part).get(key)
    method = _part(settings, "method")
    return found | {f"method.{key}": value for key, value in method.items() if key != "name"}


def _part(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = settings.get(name)
    return part if isinstance(part, dict) else {}
