"""Sparsity curves: E_0 when only the k strongest points are left, and the area under it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results
from reports.outcomes import gathered, prompts_of, terms
from reports.statistics import interval

Values = NDArray[np.float64]
COLUMNS = ("model", "task", "method", "control", "n_cells", "n_prompts", "area", "low", "high")


@dataclass(frozen=True, eq=False)
class Curve:
    """A method's curve on the test split, averaged over seeds or draws.

    Attributes:
        k: how many points are left.
        e_0, f: (prompt, k); every prompt once, averaged over the cells that had it.
        weights: (prompt,), the share of all that the cells had.
        beta: (k,), tuned at each.
        n_cells: seeds or draws.
    """

    label: str
    control: bool
    k: tuple[int, ...]
    e_0: Values
    f: Values
    weights: Values
    beta: Values
    n_cells: int

    @property
    def mean(self) -> Values:
        """(k,): E_0."""
        return np.asarray(self.weights @ self.e_0)

    @property
    def area_per_prompt(self) -> Values:
        """(prompt,): E_0 averaged over log k (trapezoids)."""
        if len(self.k) == 1:
            return self.e_0[:, 0]
        log_k = np.log(self.k)
        return np.asarray(np.trapezoid(self.e_0, log_k, axis=1) / (log_k[-1] - log_k[0]))

    @property
    def area(self) -> float:
        """The mean of `area_per_prompt`."""
        return float(self.weights @ self.area_per_prompt)

    def interval_at(self, place: int) -> tuple[float, float]:
        """95 % over prompts of E_0 at one k."""
        return interval(self.e_0[:, place], self.weights)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method, largest area first, with the columns of COLUMNS.

    `area` is E_0 on test averaged over log k, in logits: at most 0, and 0 where the single
    strongest point flips every prompt both ways. low and high: 95 % over prompts. Raises
    UserInputError for unknown names.
    """
    rows: list[dict[str, Any]] = []
    for pair in results.pairs_of(model, task):
        of_pair = []
        for one in curves(results, *pair):
            low, high = interval(one.area_per_prompt, one.weights)
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


def curves(results: Results, model: str, task: str) -> list[Curve]:
    """Return the curve of every method whose cells store one.

    Cells of one method that were measured at other k (their grids are of other sizes) have a curve
    of their own, named by how many k it has and their largest.
    """
    found = []
    for label, group in group_cells(results.of(model, task)).items():
        by_k: dict[tuple[int, ...], list[CellRecord]] = {}
        for record in group:
            if record.sparsity is not None and _values(results, record) is not None:
                by_k.setdefault(tuple(record.sparsity.k), []).append(record)
        for k, records in by_k.items():
            name = label if len(by_k) == 1 else f"{label} ({len(k)} k up to {k[-1]})"
            found.append(_curve(results, name, k, records))
    return found


def _curve(results: Results, label: str, k: tuple[int, ...], records: list[CellRecord]) -> Curve:
    stored = [one.sparsity for one in records if one.sparsity is not None]
    values = [one for record in records if (one := _values(results, record)) is not None]
    own = [prompts_of(one, of.split) for one, of in zip(records, stored, strict=True)]
    _, seen, sums = gathered(own, values)
    seen = seen.sum(axis=0)
    e_0, f = sums.sum(axis=1) / seen[:, None]
    beta = np.mean([one.beta for one in stored], axis=0)
    weights = seen / seen.sum()
    return Curve(label, records[0].control, k, e_0, f, weights, beta, len(records))


def _values(results: Results, record: CellRecord) -> Values | None:
    """(2, prompt, k): the terms of E_0 and F; None where they are not stored prompt by prompt."""
    if record.sparsity is None:
        return None
    tensors = results.small_tensors(record.id)
    ld, kl = tensors.get("sparsity.ld"), tensors.get("sparsity.kl")
    if ld is None or kl is None or len(ld) != len(record.prompts.get(record.sparsity.split, [])):
        return None
    return terms(ld, kl)
