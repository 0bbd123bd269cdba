"""One-point steering: what the score of a point says of its own scalar, beyond site and layer."""

from typing import Any

import numpy as np
from pandas import DataFrame

from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results, prompts_seed
from reports.statistics import t_interval

COLUMNS = (
    *("model", "task", "method", "control", "size", "n_cells", "n_points", "n_prompts"),
    *("r2_site_layer", "r2", "gain", "low", "high"),
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and |beta| (`size`), largest gain first, with the columns of COLUMNS.

    `r2_site_layer` is how much of the response of LD to each point's own scalar its site and layer
    explain, `r2` with |score| beside them, both on prompts left out; `gain` is their difference,
    with Student's 95 % interval over prompts. Means over cells. Raises UserInputError for unknown
    names.
    """
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        for label, group in group_cells(results.of(*pair)).items():
            cells = [record for record in group if record.one_point is not None]
            rows += [_row(*pair, label, cells, at) for at in range(_n_sizes(cells))]
    rows.sort(key=lambda row: (row["model"], row["task"], row["size"], -row["gain"]))
    return DataFrame(rows, columns=list(COLUMNS))


def _n_sizes(cells: list[CellRecord]) -> int:
    return len(cells[0].one_point.fits) if cells and cells[0].one_point else 0


def _row(model: str, task: str, label: str, cells: list[CellRecord], at: int) -> dict[str, Any]:
    records = [record.one_point for record in cells if record.one_point is not None]
    fits = [record.fits[at] for record in records]
    of_prompt: dict[tuple[Any, int], list[float]] = {}
    for cell, fit in zip(cells, fits, strict=True):
        for prompt, gain in enumerate(fit.gains):
            of_prompt.setdefault((prompts_seed(cell), prompt), []).append(gain)
    interval = t_interval([float(np.mean(gains)) for gains in of_prompt.values()])
    means = {
        name: float(np.mean([getattr(fit, name) for fit in fits]))
        for name in ("r2_site_layer", "r2", "gain")
    }
    return {
        **{"model": model, "task": task, "method": label, "control": cells[0].control},
        **{"size": fits[0].size, "n_cells": len(cells), "n_points": records[0].n_points},
        **{"n_prompts": len(of_prompt), **means, "low": interval.low, "high": interval.high},
    }
