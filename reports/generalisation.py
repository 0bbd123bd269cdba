"""Table 2: the same settings on the train prompts (A), other entities (B), another template (C)."""

from typing import Any

from pandas import DataFrame

from bench.store.records import CellRecord
from reports.fronts import points
from reports.load import Results, of_pair
from reports.statistics import AT_MOST_0, t_interval
from tasks.errors import UserInputError

SPLITS = ("train", "test", "shifted")


def by_refit(results: Results, model: str, task: str, *, at_price: bool = False) -> DataFrame:
    """Return a row a finished cell and split, controls left out.

    Columns: cell, method, refit, split, E_0, F, E_0_unsteered.

    A refit is a seed and a draw of prompts: cells of one refit saw the same prompts. Strengths are
    those of `reports.fronts.points`.
    """
    found = points(results, model, task, at_price=at_price)
    refits = {record.id: refit_of(record) for record in results.of(model, task)}
    found = found.assign(method=found["label"], refit=found["cell"].map(refits))
    columns = ["cell", "method", "refit", "split", "E_0", "F", "E_0_unsteered"]
    return found[found["split"].isin(SPLITS)][columns]


def refit_of(record: CellRecord) -> str:
    """Return which seed and draw of prompts a cell has: cells that share it can be paired."""
    prompts: dict[str, Any] = record.settings.get("prompts") or {}
    return f"seed {record.seed}, prompts {prompts.get('seed', 0)}"


@of_pair
def table(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a method and split, means over refits with Student's 95 % interval.

    Columns: method, split, n_refits, and E_0, E_0_low, E_0_high, F, F_low, F_high; a row of the
    unsteered model leads each split. Raises UserInputError where the shifted split is missing.
    """
    found = by_refit(results, model, task)
    if "shifted" not in set(found["split"]):
        raise UserInputError(
            f"{results.store.directory}: {model} · {task} was not evaluated on another template; "
            "`prompts: {shifted: 12}` does that."
        )
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        own = found[found["split"] == split]
        unsteered = own.drop_duplicates("refit").assign(
            method="(unsteered)", E_0=lambda frame: frame["E_0_unsteered"], F=0.0
        )
        for one in (unsteered, *(group for _, group in own.groupby("method", sort=False))):
            row: dict[str, Any] = {"method": one["method"].iloc[0], "split": split}
            row["n_refits"] = len(one)
            for name in ("E_0", "F"):
                mean = t_interval(one[name].tolist(), AT_MOST_0)
                row |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
            if one is unsteered:
                row |= {"F_low": 0.0, "F_high": 0.0}
            rows.append(row)
    return DataFrame(rows)
