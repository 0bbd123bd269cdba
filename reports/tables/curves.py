"""Curves of E_0 over the k strongest points and over the price, prompt by prompt, and their areas.

Beside the prices stands the floor of a task: the least price at which its prompts can be flipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.store.records import CellRecord
from reports.labels import group_cells
from reports.load import Results, of_pairs, once, unsteered_of
from reports.outcomes import (
    Prompt,
    gathered,
    main_split,
    prompts_of,
    stored_terms,
    unsteered_values,
)
from reports.statistics import interval

Values = NDArray[np.float64]
Kind = Literal["sparsity", "localisation", "price_curve"]
"""Curves over k with a strength tuned at each, over k at one price, and over prices."""
SHARE = ("share", "share_low", "share_high")


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
    stored = [getattr(record, kind) for record in records]
    values = [values_of(results, record, kind) for record in records]
    prompts, had, sums = gathered(
        [prompts_of(record, one.split) for record, one in zip(records, stored, strict=True)],
        [one for one in values if one is not None],
    )
    seen = had.sum(axis=0)
    e_0, f = sums.sum(axis=1) / seen[:, None]
    return Curve(
        label,
        records[0].control,
        _x_of(records[0], kind),
        prompts,
        e_0,
        f,
        weights=seen / seen.sum(),
        beta=np.mean([one.beta for one in stored], axis=0),
        unsteered=float(np.mean([unsteered_of(record, stored[0].split) for record in records])),
        n_cells=len(records),
    )


def _x_of(record: CellRecord, kind: Kind) -> tuple[float, ...]:
    stored = getattr(record, kind)
    return tuple(stored.price if kind == "price_curve" else stored.k)


def values_of(results: Results, record: CellRecord, kind: Kind) -> Values | None:
    """(2, prompt, x): the terms of E_0 and F; None where they are not stored prompt by prompt."""
    stored = getattr(record, kind)
    if stored is None or not _x_of(record, kind):
        return None
    return stored_terms(results, record, kind, stored.split)


@of_pairs
def sparsity(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method, largest area first: method, control, n_cells, n_prompts, area, low,
    high.

    `area` is E_0 on test averaged over log k, in logits: at most 0, and 0 where the single
    strongest point flips every prompt both ways; at every k the strength is tuned for Psi. low and
    high: 95 % over prompts. Raises UserInputError for unknown names.
    """
    return _areas(results, model, task, "sparsity")


@of_pairs
def localisation(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method as `sparsity` does, of the k strongest points at one price.

    `share` is the share of the unsteered E_0 that is made up for, averaged over log k.
    """
    return _areas(results, model, task, "localisation")


@of_pairs
def price_curve(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method as `localisation` does, over the prices of the price curve."""
    return _areas(results, model, task, "price_curve")


def _areas(results: Results, model: str, task: str, kind: Kind) -> Iterator[dict[str, Any]]:
    for one in sorted(curves(results, model, task, kind), key=lambda one: -one.area):
        low, high = one.area_interval
        shares = dict(zip(SHARE, map(one.made_up, (one.area, low, high)), strict=True))
        yield {
            **{"method": one.label, "control": one.control, "n_cells": one.n_cells},
            **{"n_prompts": len(one.e_0), "area": one.area, "low": low, "high": high},
            **(shares if kind != "sparsity" else {}),
        }


@of_pairs
def prices(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a cell, split and price: E_0 at the strength chosen on train for that price.

    `paid` is what it costs on the split (-F, nats), `floor` the least price at which a prompt of
    the task can be flipped, a mean over prompts of the main split. `reached` is False where no
    strength costs as much; `extrapolated` where what was trained is used at less than half or more
    than twice the strength that it was trained at. Raises UserInputError for unknown names.
    """
    for record in results.of(model, task):
        chosen = {price.price: price for price in record.prices}
        for row in record.metrics:
            if row.price in chosen:
                price = chosen[row.price]
                yield {
                    **{"method": record.method, "control": record.control},
                    **{"split": row.split, "price": row.price},
                    **{"draw": record.draw, "seed": record.seed, "beta": row.beta},
                    **{"E_0": row.E_0, "paid": -row.F, "E_0_unsteered": row.E_0_unsteered},
                    "floor": floor_of(results, model, task),
                    **{"reached": price.reached, "extrapolated": price.extrapolated},
                }


def least_price(p_answer: NDArray[np.float64], p_foil: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least divergence in nats at which answer and foil are equally likely.

    -log(1 - (sqrt(p_answer) - sqrt(p_foil))^2), where all else of the distribution stays in
    proportion: the smallest KL(q || p) over distributions q with q(answer) = q(foil). One of the
    two signs of an intervention has to pay it.

    Args:
        p_answer: probabilities of the answers in the unsteered model.
        p_foil: of the foils.
    """
    return np.asarray(-np.log1p(-((np.sqrt(p_answer) - np.sqrt(p_foil)) ** 2)))


@once
def floor_of(results: Results, model: str, task: str) -> float:
    """Return the mean of `least_price` over the prompts of the main split; NaN if not stored."""
    records = [record for record in results.of(model, task) if record.status == "done"]
    split = main_split(records)
    known = [one for record in records if (one := unsteered_values(results, record, split))]
    prices = [least_price(one["p_answer"], one["p_foil"]).mean() for one in known]
    return float(np.mean(prices)) if prices else float("nan")
