"""Sparsity curves: E_0 when only the k strongest points are left, and the area under it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reports.load import Results

if TYPE_CHECKING:
    from pandas import DataFrame

Values = NDArray[np.float64]
COLUMNS = ("model", "task", "method", "control", "n_cells", "n_prompts", "area", "low", "high")


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a method, largest area first, with the columns of COLUMNS.

    `area` is E_0 on test averaged over log k, in logits: at most 0, and 0 where the single
    strongest point flips every prompt both ways. low and high: 95 % over prompts. Raises
    UserInputError for unknown names.
    """
    from pandas import DataFrame

    rows: list[dict[str, Any]] = []
    for pair in dict.fromkeys((one.model, one.task) for one in results.matching(model, task)):
        of_pair = []
        for one in curves(results, *pair, "sparsity"):
            low, high = one.area_interval
            of_pair.append(
                {
                    **{"model": pair[0], "task": pair[1], "method": one.label},
                    **{"control": one.control, "n_cells": one.n_cells},
                    **{"n_prompts": len(one.e_0), "area": one.area},
                    **{"low": low, "high": high},
                }
            )
        rows += sorted(of_pair, key=lambda row: -row["area"])
    return DataFrame(rows, columns=list(COLUMNS))
