"""Table 2: the same settings on the train prompts (A), other entities (B), another template (C)."""

from typing import Any

from pandas import DataFrame

from bench.store.records import CellRecord
from bench.store.tidy import variant_labels
from reports.load import Results
from reports.statistics import AT_MOST_0, t_interval
from tasks.errors import UserInputError

SPLITS = ("train", "test", "shifted")


def by_refit(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a finished cell and split, controls left out.

    Columns: cell, method, refit, split, E_0, F, E_0_unsteered.

    A refit is a seed and a draw of prompts: cells of one refit saw the same prompts. Untrained
    methods are taken at beta*.
    """
    records = [
        record
        for record in results.of(model, task)
        if not record.control and record.status == "done"
    ]
    labels = variant_labels(records)
    rows = [
        {
            "cell": record.id,
            "method": labels[record.id],
            "refit": refit_of(record),
            "split": row.split,
            "E_0": row.E_0,
            "F": row.F,
            "E_0_unsteered": row.E_0_unsteered,
        }
        for record in records
        for row in record.metrics
        if row.split in SPLITS and row.beta_kind == ("one" if record.trained else "star")
    ]
    columns = ["cell", "method", "refit", "split", "E_0", "F", "E_0_unsteered"]
    return DataFrame(rows, columns=columns)


def refit_of(record: CellRecord) -> str:
    """Return which seed and draw of prompts a cell has: cells that share it can be paired."""
    prompts: dict[str, Any] = record.settings.get("prompts") or {}
    return f"seed {record.seed}, prompts {prompts.get('seed', 0)}"


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and split, means over refits with Student's 95 % interval.

    Columns: method, split, n_refits, and E_0, E_0_low, E_0_high, F, F_low, F_high; a row of the
    unsteered model leads each split. Raises UserInputError where the shifted split is missing.
    """
    model, task = results.one(model, task)
    found = by_refit(results, model, task)
    if "shifted" not in set(found["split"]):
        raise UserInputError(
            f"{results.store.directory}: {model} · {task} was not evaluated on another template; "
            "`prompts: {shifted: 12}` does that."
        )
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        own = found[found["split"] == split]
        refits = own.drop_duplicates("refit")
        unsteered = t_interval(refits["E_0_unsteered"].tolist(), AT_MOST_0)
        rows.append(
            {"method": "(unsteered)", "split": split, "n_refits": unsteered.n}
            | {"E_0": unsteered.mean, "E_0_low": unsteered.low, "E_0_high": unsteered.high}
            | {"F": 0.0, "F_low": 0.0, "F_high": 0.0}
        )
        for method, group in own.groupby("method", sort=False):
            row: dict[str, Any] = {"method": method, "split": split, "n_refits": len(group)}
            for name in ("E_0", "F"):
                one = t_interval(group[name].tolist(), AT_MOST_0)
                row |= {name: one.mean, f"{name}_low": one.low, f"{name}_high": one.high}
            rows.append(row)
    return DataFrame(rows)
