"""What a method does at every k or price of a stored curve, prompt by prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results, once
from reports.outcomes import Prompt, gathered, prompts_of, terms
from reports.statistics import interval

Values = NDArray[np.float64]
Kind = Literal["sparsity", "localisation", "price_curve"]
"""Curves over k with a strength tuned at each, over k at one price, and over prices."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A method's curve on the test split, averaged over seeds or draws.

    Attributes:
        label: as in the leaderboard.
        control: whether it is a control.
        x: how many points are left, or the price in nats that may be paid on train.
        prompts: every prompt once.
        e_0, f: (prompt, x), averaged over the cells that had the prompt.
        weights: (prompt,), the share of all that the cells had.
        beta: (x,), chosen on train at each.
        unsteered: E_0 of the unsteered model.
        n_cells: seeds or draws.
    """

    label: str
    control: bool
    x: tuple[float, ...]
    prompts: tuple[Prompt, ...]
    e_0: Values
    f: Values
    weights: Values
    beta: Values
    unsteered: float
    n_cells: int

    @property
    def mean(self) -> Values:
        """(x,): E_0."""
        return np.asarray(self.weights @ self.e_0)

    @property
    def paid(self) -> Values:
        """(x,): the price paid on test, -F in nats."""
        return np.asarray(-(self.weights @ self.f))

    @property
    def area_per_prompt(self) -> Values:
        """(prompt,): E_0 averaged over log x (trapezoids)."""
        return averaged_over_log(self.x, self.e_0)

    @property
    def area(self) -> float:
        """The mean of `area_per_prompt`: at most 0, in logits."""
        return float(self.weights @ self.area_per_prompt)

    @property
    def area_interval(self) -> tuple[float, float]:
        """95 % over prompts of `area`."""
        return interval(self.area_per_prompt, self.weights)

    def made_up(self, e_0: float) -> float:
        """Return the share of the unsteered E_0 that is made up for: 1 where every prompt flips."""
        return 1 - e_0 / self.unsteered if self.unsteered else float("nan")

    def interval_at(self, place: int) -> tuple[float, float]:
        """95 % over prompts of E_0 at one x."""
        return interval(self.e_0[:, place], self.weights)


def averaged_over_log(x: Sequence[float], values: Values) -> Values:
    """Return the means of `values` (..., x) over log x, by trapezoids: (...)."""
    if len(x) == 1:
        return values[..., 0]
    log_x = np.log(x)
    return np.asarray(np.trapezoid(values, log_x, axis=-1) / (log_x[-1] - log_x[0]))


@once
def curves(results: Results, model: str, task: str, kind: Kind) -> list[Curve]:
    """Return the curve of every method whose cells store one.

    Cells of one method that were measured at other x have a curve of their own, named by how many x
    it has and their largest. Of a control's draws count those measured at the most.
    """
    found = []
    for label, group in group_cells(results.of(model, task)).items():
        by_x: dict[tuple[float, ...], list[CellRecord]] = {}
        for record in group:
            if values_of(results, record, kind) is not None:
                by_x.setdefault(_x_of(record, kind), []).append(record)
        if group[0].control and kind == "localisation" and by_x:
            most = max(by_x, key=len)
            by_x = {most: by_x[most]}
        for x, records in by_x.items():
            what = "prices" if kind == "price_curve" else "k"
            name = label if len(by_x) == 1 else f"{label} ({len(x)} {what} up to {x[-1]:g})"
            found.append(curve_of(results, name, records, kind))
    return found


@once
def control_draws(results: Results, model: str, task: str, kind: Kind) -> list[Curve]:
    """Return the curve of every draw of every control that stores one, over whatever x it has."""
    return [
        curve_of(results, label, [record], kind)
        for label, group in group_cells(results.of(model, task)).items()
        for record in group
        if record.control and values_of(results, record, kind) is not None
    ]


def curve_of(results: Results, label: str, records: list[CellRecord], kind: Kind) -> Curve:
    """Return the curve of cells that store one over the same x, each prompt once."""
    x = _x_of(records[0], kind)
    known = [(one, values_of(results, one, kind)) for one in records]
    cells = [(one, values) for one, values in known if values is not None]
    prompts, had, sums_of = gathered(
        [prompts_of(one, getattr(one, kind).split) for one, _ in cells],
        [values for _, values in cells],
    )
    seen = had.sum(axis=0)
    e_0, f = sums_of.sum(axis=1) / seen[:, None]
    beta = np.mean([getattr(record, kind).beta for record in records], axis=0)
    unsteered = [
        next(
            (
                row.E_0_unsteered
                for row in record.metrics
                if row.split == getattr(record, kind).split
            ),
            float("nan"),
        )
        for record in records
    ]
    first, weights = records[0], seen / seen.sum()
    return Curve(
        label,
        first.control,
        x,
        prompts,
        e_0,
        f,
        weights,
        beta,
        float(np.mean(unsteered)),
        len(records),
    )


def _x_of(record: CellRecord, kind: Kind) -> tuple[float, ...]:
    stored = getattr(record, kind)
    return tuple(stored.price if kind == "price_curve" else stored.k)


def values_of(results: Results, record: CellRecord, kind: Kind) -> Values | None:
    """(2, prompt, x): the terms of E_0 and F; None where they are not stored prompt by prompt."""
    stored = getattr(record, kind)
    if stored is None or not _x_of(record, kind):
        return None
    tensors = results.small_tensors(record.id)
    ld, kl = tensors.get(f"{kind}.ld"), tensors.get(f"{kind}.kl")
    if ld is None or kl is None or len(ld) != len(record.prompts.get(stored.split, [])):
        return None
    return terms(ld, kl)
