"""Sparsity curves: E_0 when only the k strongest points are left, and the area under it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord
from bench.results import CorruptCellError
from reports.labels import group_cells
from reports.load import Results
from reports.statistics import interval

if TYPE_CHECKING:
    from pandas import DataFrame

Values = NDArray[np.float64]
COLUMNS = ("model", "task", "method", "control", "n_cells", "n_prompts", "area", "low", "high")


@dataclass(frozen=True, eq=False)
class Curve:
    """A method's curve on the test split, averaged over seeds or draws.

    Attributes:
        k: how many points are left.
        e_0, f: (prompt, k).
        beta: (k,), tuned at each.
        n_cells: seeds or draws.
    """

    label: str
    control: bool
    k: tuple[int, ...]
    e_0: Values
    f: Values
    beta: Values
    n_cells: int

    @property
    def area(self) -> Values:
        """(prompt,): E_0 averaged over log k (trapezoids)."""
        if len(self.k) == 1:
            return self.e_0[:, 0]
        log_k = np.log(self.k)
        return np.asarray(np.trapezoid(self.e_0, log_k, axis=1) / (log_k[-1] - log_k[0]))


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
        for one in curves(results, *pair):
            low, high = interval(one.area)
            of_pair.append(
                {
                    **{"model": pair[0], "task": pair[1], "method": one.label},
                    **{"control": one.control, "n_cells": one.n_cells},
                    **{"n_prompts": len(one.e_0), "area": float(one.area.mean())},
                    **{"low": low, "high": high},
                }
            )
        rows += sorted(of_pair, key=lambda row: -row["area"])
    return DataFrame(rows, columns=list(COLUMNS))


def curves(results: Results, model: str, task: str) -> list[Curve]:
    """Return the curve of every method whose cells store one."""
    found = []
    for label, group in group_cells(results.of(model, task)).items():
        known = [(record, values) for record in group if (values := _values(results, record))]
        alike = [
            (record.sparsity, values)
            for record, values in known
            if record.sparsity
            and known[0][0].sparsity
            and record.sparsity.k == known[0][0].sparsity.k
        ]
        if alike:
            e_0, f = (np.mean([values[part] for _, values in alike], axis=0) for part in (0, 1))
            beta = np.mean([stored.beta for stored, _ in alike], axis=0)
            k = tuple(alike[0][0].k)
            found.append(Curve(label, group[0].control, k, e_0, f, beta, len(alike)))
    return found


def _values(results: Results, record: CellRecord) -> tuple[Values, Values] | None:
    """(prompt, k) each: the terms of E_0 and F."""
    if record.sparsity is None:
        return None
    try:
        tensors = results.small_tensors(record.id)
    except CorruptCellError:
        return None
    ld, kl = tensors.get("sparsity.ld"), tensors.get("sparsity.kl")
    if ld is None or kl is None:
        return None
    ld, kl = ld.astype(np.float64), kl.astype(np.float64)
    return np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0), -kl.sum(axis=-1)
