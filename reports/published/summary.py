"""A row a model, task and method: what the page and its table say of each."""

from typing import Any

from pandas import DataFrame

from reports.floor import floor_of
from reports.load import Results
from reports.outcomes import main_split
from reports.tables.leaderboard import leaderboard

COLUMNS = (
    *("model", "task", "method", "trained", "control", "n_cells", "n_missing"),
    *("price", "E_0", "E_0_low", "E_0_high", "paid", "E_0_unsteered", "share", "floor"),
    *("against_best", "against_controls"),
    *(
        "few_points",
        "few_points_low",
        "few_points_high",
        "localises",
        "E_0_at_star",
        "paid_at_star",
    ),
    *("map_changes", "kl_elsewhere", "kl_neutral"),
)


def summary(results: Results) -> DataFrame:
    """Return the leaderboard's columns that answer the two questions, best E_0 of a task first.

    `share` is the share of the unsteered E_0 that is made up for at `price`, `few_points` that of
    the k strongest points alone, averaged over log k; low and high are 95 % over prompts. The last
    three are of checks (`reports.tables.checks`). Only methods and controls with a finished cell.
    """
    rows = []
    for model, task in results.pairs():
        board = leaderboard(results, model, task)
        split = main_split(results.of(model, task))
        floor = floor_of(results, model, task)
        rows += [
            _row(row, split) | {"floor": floor}
            for row in board.to_dict("records")
            if row["n_cells"]
        ]
    return DataFrame(rows, columns=[*COLUMNS], dtype=object)


def _row(row: dict[str, Any], split: str) -> dict[str, Any]:
    e_0, unsteered = row[f"E_0_{split}"], row[f"E_0_unsteered_{split}"]
    return {
        **{name: row[name] for name in COLUMNS if name in row},
        **{"E_0": e_0, "E_0_low": row[f"E_0_{split}_prompts_low"]},
        **{"E_0_high": row[f"E_0_{split}_prompts_high"], "paid": -row[f"F_{split}"]},
        **{"E_0_unsteered": unsteered, "share": 1 - e_0 / unsteered if unsteered else None},
        **{"few_points": row["localisation"], "E_0_at_star": row[f"E_0_{split}_at_star"]},
        "paid_at_star": row[f"paid_{split}_at_star"],
        "few_points_low": row["localisation_prompts_low"],
        "few_points_high": row["localisation_prompts_high"],
    }
