"""Circuit faithfulness of every method with intervals over prompts, and tests against chance."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from bench.store.circuit_record import CircuitRecord, Order
from reports.labels import group_cells
from reports.load import Results, of_pairs, once
from reports.outcomes import gathered, prompts_of
from reports.present import strings
from reports.statistics import PERCENTILES, UNDEFINED, bootstrap_weights
from reports.tables.curves import averaged_over_log

Values = NDArray[np.float64]
ORDERS: tuple[Order, ...] = ("signed", "absolute")
AREAS = ("CPR", "CMD", "CPR_log", "CMD_log")
TESTED = ("sufficient", "p_sufficient", "necessary", "p_necessary")


@dataclass(frozen=True, eq=False)
class Circuits:
    """The circuits of a method's cells in one order.

    Attributes:
        label: as in the leaderboard.
        control: whether the method is a control.
        stored: what its cells store: of seeds, draws, draws of prompts.
        order: by which nodes were taken.
        seen: (cell, prompt), how often each cell had each prompt.
        sums: (kind, cell, prompt, share), logit differences times `seen`: with the circuit alone,
            without it, of the clean run and of the corrupted one.
    """

    label: str
    control: bool
    stored: tuple[CircuitRecord, ...]
    order: Order
    seen: Values
    sums: Values

    @property
    def first(self) -> CircuitRecord:
        """What the first cell's record says: all cells have its shares."""
        return self.stored[0]

    def faithfulness(self, weights: Values) -> Values:
        """Return f (draw, kind, cell, share) with and without the circuit, of weighted prompts."""
        means = np.einsum("dp,kcps->dkcs", weights, self.sums)
        clean, corrupted = means[:, 2:3], means[:, 3:4]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((means[:, :2] - corrupted) / (clean - corrupted))

    @cached_property
    def _drawn(self) -> Values:
        """f of every bootstrap draw of prompts, averaged over nothing yet."""
        return self.faithfulness(bootstrap_weights(self.seen.shape[1]))

    def interval_of_f(self, kind: int) -> tuple[Values, Values]:
        """95 % over prompts of the mean f at every share, with (0) or without (1) the circuit."""
        low, high = np.percentile(self._drawn[:, kind].mean(axis=1), PERCENTILES, axis=0)
        return low, high

    def mean_f(self, kind: int) -> Values:
        """(share,): f as stored, averaged over cells."""
        name = ("f", "f_without")[kind]
        curves = [getattr(one.curve(self.order), name) for one in self.stored]
        return np.asarray(np.mean(curves, axis=0))

    def area(self, name: str) -> float:
        """CPR, CMD or their means over log k, averaged over cells."""
        return float(np.mean([getattr(one.curve(self.order), name) for one in self.stored]))

    def area_interval(self, name: str) -> tuple[float, float]:
        """95 % over prompts of `area`; NaN where f is undefined or there are too few prompts."""
        if self.seen.shape[1] < 2 or not np.isfinite(self.area(name)):
            return UNDEFINED
        f = self._drawn[:, 0]
        values = np.abs(1 - f) if name.startswith("CMD") else f
        if name.endswith("_log"):
            k = np.asarray(self.first.k)
            _, at = np.unique(k, return_index=True)
            at = at[k[at] > 0]
            areas = averaged_over_log(k[at].tolist(), values[..., at])
        else:
            areas = np.asarray(np.trapezoid(values, self.first.share))
        low, high = np.percentile(areas.mean(axis=1), PERCENTILES)
        return float(low), float(high)


@of_pairs
def table(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method and order of its nodes, largest CPR first.

    `CPR` is the area under f over the share of nodes kept, `CMD` that under |1 - f|; `_log` are
    means over log k; `_low` and `_high` are 95 % over prompts. Of `n_draws` random circuits of
    `n_tested` nodes, as many as `sufficient` come less near f = 1, and without as many as
    `necessary` f stays nearer to 1 (means over cells, p of the first); p is of the binomial test
    that more than 0.9 of all random circuits do. Raises UserInputError for unknown names.
    """
    for order in ORDERS:
        for one in sorted(circuits(results, model, task, order), key=lambda one: -one.area("CPR")):
            ends = {
                f"{name}{end}": value
                for name in AREAS
                for end, value in zip(
                    ("", "_low", "_high"), (one.area(name), *one.area_interval(name)), strict=True
                )
            }
            yield {
                **{"method": one.label, "control": one.control, "order": order},
                **{"n_cells": len(one.stored), "n_prompts": one.seen.shape[1]},
                **{"n_nodes": one.first.n_nodes, **ends},
                **{"n_tested": one.first.tested_k, "n_draws": one.first.draws},
                **{name: getattr(one.first.curve(order), name) for name in TESTED},
            }


def shown(frame: DataFrame) -> DataFrame:
    """Return the table as strings; of the areas over log k without their intervals."""
    kept = [name for name in frame.columns if not name.endswith(("_log_low", "_log_high"))]
    return strings(frame[kept])


@once
def circuits(results: Results, model: str, task: str, order: Order) -> list[Circuits]:
    """Return the circuits of every method whose cells store them, in one order."""
    found = []
    for label, group in group_cells(results.of(model, task)).items():
        prompts, values = [], []
        stored: list[CircuitRecord] = []
        for record in group:
            one = record.circuit
            if one is None or (stored and one.k != stored[0].k):
                continue
            tensors, own = results.small_tensors(record.id), prompts_of(record, one.split)
            kinds = [tensors.get(f"circuit.{name}") for name in ("ld", "clean", "corrupted")]
            ld, clean, corrupted = (np.zeros(0) if of is None else of for of in kinds)
            if own and len(ld) == len(clean) == len(corrupted) == len(own):
                both = ld[:, ORDERS.index(order)].astype(np.float64).swapaxes(0, 1)
                runs = [np.broadcast_to(run[:, None], ld.shape[::3]) for run in (clean, corrupted)]
                prompts.append(own)
                values.append(np.stack([*both, *runs]))
                stored.append(one)
        if stored:
            _, seen, sums = gathered(prompts, values)
            found.append(Circuits(label, group[0].control, tuple(stored), order, seen, sums))
    return found
