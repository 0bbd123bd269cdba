"""Areas under the curves of E_0: over the k strongest points, and over the price."""

from typing import Any

from pandas import DataFrame

from reports.curves import Kind, curves
from reports.floor import floor_of
from reports.load import Results

COLUMNS = ("model", "task", "method", "control", "n_cells", "n_prompts", "area", "low", "high")
SHARE = ("share", "share_low", "share_high")
AT_PRICES = (
    *(
        "model",
        "task",
        "method",
        "control",
        "split",
        "price",
        "draw",
        "seed",
        "beta",
        "E_0",
        "paid",
    ),
    *("E_0_unsteered", "floor", "reached", "extrapolated"),
)


def sparsity(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method, largest area first, with the columns of COLUMNS.

    `area` is E_0 on test averaged over log k, in logits: at most 0, and 0 where the single
    strongest point flips every prompt both ways; at every k the strength is tuned for Psi. low and
    high: 95 % over prompts. Raises UserInputError for unknown names.
    """
    return _areas(results, model, task, "sparsity")[list(COLUMNS)]


def localisation(
    results: Results, *, model: str | None = None, task: str | None = None
) -> DataFrame:
    """Return a row a method as `sparsity` does, of the k strongest points at one price.

    `share` is the share of the unsteered E_0 that is made up for, averaged over log k.
    """
    return _areas(results, model, task, "localisation")


def price_curve(
    results: Results, *, model: str | None = None, task: str | None = None
) -> DataFrame:
    """Return a row a method as `localisation` does, over the prices of the price curve."""
    return _areas(results, model, task, "price_curve")


def _areas(results: Results, model: str | None, task: str | None, kind: Kind) -> DataFrame:
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        of_pair = []
        for one in curves(results, *pair, kind):
            low, high = one.area_interval
            ends = dict(zip(SHARE, map(one.made_up, (one.area, low, high)), strict=True))
            of_pair.append(
                {
                    **{"model": pair[0], "task": pair[1], "method": one.label},
                    **{"control": one.control, "n_cells": one.n_cells},
                    **{"n_prompts": len(one.e_0), "area": one.area},
                    **{"low": low, "high": high, **ends},
                }
            )
        rows += sorted(of_pair, key=lambda row: -row["area"])
    return DataFrame(rows, columns=[*COLUMNS, *SHARE])


def prices(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a cell, split and price: E_0 at the strength chosen on train for that price.

    `paid` is what it costs on the split (-F, nats), `floor` the least price at which a prompt of
    the task can be flipped, a mean over prompts of the main split. `reached` is False where no
    strength costs as much; `extrapolated` where what was trained is used at less than half or more
    than twice the strength that it was trained at. Raises UserInputError for unknown names.
    """
    rows = []
    for record in results.of(model, task):
        chosen = {price.price: price for price in record.prices}
        for row in record.metrics:
            if row.price in chosen:
                price = chosen[row.price]
                rows.append(
                    {
                        **{"model": record.model, "task": record.task, "method": record.method},
                        **{"control": record.control, "split": row.split, "price": row.price},
                        **{"draw": record.draw, "seed": record.seed, "beta": row.beta},
                        **{"E_0": row.E_0, "paid": -row.F},
                        "E_0_unsteered": row.E_0_unsteered,
                        "floor": floor_of(results, record.model, record.task),
                        **{"reached": price.reached, "extrapolated": price.extrapolated},
                    }
                )
    return DataFrame(rows, columns=list(AT_PRICES))
