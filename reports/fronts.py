"""Trade-offs over a grid of settings: who is on the Pareto front, and what it dominates.

A point is a cell on a split: effectiveness E_0 (larger is better) against one of `PLANES` (also
made to be maximised). A front is taken on the test split. Fronts and hypervolumes are those of
`moocore` (M. Lopez-Ibanez).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from moocore import hypervolume, is_nondominated
from numpy.typing import NDArray
from pandas import DataFrame

from bench.store.records import CellRecord, MetricRow
from bench.store.tidy import variant_labels
from reports.load import Results, judged, plain_name
from reports.outcomes import judged_at, own_strength, per_prompt
from tasks.errors import UserInputError

WORST_F = -5.0
"""F at the reference point: 5 nats are a model that was broken rather than steered."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """What E_0 is traded against.

    Attributes:
        column: of `points`.
        label: for an axis.
        counts: smaller is better, and differences are seen on a logarithmic scale.
    """

    column: str
    label: str
    counts: bool = False

    def maximised(self, values: Values) -> Values:
        """The values as something to maximise: -log10(1 + count) of a count."""
        return -np.log10(1 + values) if self.counts else values


PLANES: Mapping[str, Plane] = {
    "faithfulness": Plane("F", "faithfulness F (nats)"),
    "minimality": Plane("count", "parameters |θ| ≥ 0.01", counts=True),
    "smallest_k": Plane("smallest", "parameters of the smallest k", counts=True),
}


def points(results: Results, model: str, task: str, *, at_price: bool = False) -> DataFrame:
    """Return a row a finished cell and split of a model and task, controls left out.

    Columns: cell, method (without settings), label, split, E_0, E_0_unsteered, F, count (NaN where
    it is not meaningful), smallest_k (in the method's units; NaN where there is none), smallest
    (the same in parameters: those of k whole vectors, of k scalars), n_parameters. Untrained
    methods are taken at beta*, trained ones at beta = 1, or all at the main price; raises
    UserInputError where there is none.
    """
    records = [record for record in results.of(model, task) if not record.control]
    labels = variant_labels(records)
    rows = [
        _point(record, row, labels[record.id])
        for record in records
        for row in judged(record, at_price=at_price)
    ]
    columns = ("cell", "method", "label", "split", "E_0", "E_0_unsteered", "F")
    return DataFrame(rows, columns=[*columns, "count", "smallest_k", "smallest", "n_parameters"])


def _point(record: CellRecord, row: MetricRow, label: str) -> dict[str, Any]:
    of = record.minimality
    smallest_k = np.nan if of is None or of.smallest_k is None else of.smallest_k
    return {
        **{"cell": record.id, "method": plain_name(record.method), "label": label},
        **{name: getattr(row, name) for name in ("split", "E_0", "E_0_unsteered", "F")},
        "count": of.count if of is not None and of.meaningful else np.nan,
        "smallest_k": smallest_k,
        "smallest": smallest_k * _parameters_a_unit(record),
        "n_parameters": np.nan if of is None else of.n_parameters,
    }


def _parameters_a_unit(record: CellRecord) -> float:
    """Parameters of what the smallest k counts: the width of a vector (a mean, if they differ)."""
    minimality, grid = record.minimality, record.grid
    if minimality is None or grid is None or minimality.unit != "vector":
        return 1.0
    points = len(grid.places) * grid.n_layers * len(grid.positions) - len(grid.excluded)
    return minimality.n_parameters / points


def grid_points(results: Results, model: str, task: str, *, at_price: bool = False) -> DataFrame:
    """Return `points`; raises UserInputError where no method has three settings to trade off."""
    found = points(results, model, task, at_price=at_price)
    tried = found[found["split"] == "test"].groupby("method")["label"].nunique()
    if not len(tried) or tried.max() < 3:
        raise UserInputError(
            f"{results.store.directory} has no grid of settings for {model} · {task}: a front "
            "needs a method with three or more, such as `objective: {lambda_f: [0, 1, 10]}`."
        )
    return found


def blind(test: DataFrame) -> dict[str, int]:
    """Settings of each method whose count misses what they do: it is 0 or not meaningful, and yet
    they steer."""
    missed = test[~(test["count"] > 0) & (test["E_0"] > test["E_0_unsteered"])]
    return {str(method): len(own) for method, own in missed.groupby("method", sort=False)}


def front(e_0: Values, other: Values) -> NDArray[np.bool_]:
    """Which points nothing dominates; both are maximised, and NaN is never on the front."""
    known = np.isfinite(e_0) & np.isfinite(other)
    on_front = np.zeros(len(e_0), dtype=bool)
    if known.any():
        values = np.column_stack([e_0[known], other[known]])
        on_front[known] = is_nondominated(values, maximise=True, keep_weakly=True)
    return on_front


def shares(methods: Iterable[str], e_0: Values, other: Values) -> dict[str, float]:
    """Return the share of the common front that every method holds; NaN where there is none."""
    names = np.array(list(methods))
    on_front = front(e_0, other)
    total = on_front.sum()
    return {
        str(name): float((on_front & (names == name)).sum() / total) if total else float("nan")
        for name in dict.fromkeys(names)
    }


def summary(found: DataFrame) -> DataFrame:
    """Return a row a plane and method: the trade-offs on the test split of `grid_points`.

    Columns: plane, method, n_settings, on_front (of the common front), share, hypervolume (of what
    the method's own points dominate, as a share of the box between the reference point and the
    best there could be), reference_E_0, reference. The reference point has the unsteered model's
    E_0 and F = -5 nats, or as many parameters as the largest method has.
    """
    test = found[found["split"] == "test"]
    e_0 = test["E_0"].to_numpy(float)
    worst = float(test["E_0_unsteered"].min())
    rows = []
    for name, plane in PLANES.items():
        raw = test[plane.column].to_numpy(float)
        other = plane.maximised(raw)
        limit = float(test["n_parameters"].max()) if plane.counts else WORST_F
        bound = float(plane.maximised(np.array([limit]))[0])
        on_front = front(e_0, other)
        share = shares(test["method"], e_0, other)
        for method in share:
            own = (test["method"] == method).to_numpy() & np.isfinite(other)
            reached, covered = np.column_stack([e_0[own], other[own]]), float("nan")
            if own.any():
                covered = hypervolume(reached, ref=[worst, bound], maximise=True)
            rows.append(
                {
                    **{"plane": name, "method": method, "n_settings": int(own.sum())},
                    **{"on_front": int((on_front & own).sum()), "share": share[method]},
                    "hypervolume": covered / (worst * bound) if worst * bound else float("nan"),
                    **{"reference_E_0": worst, "reference": limit},
                }
            )
    return DataFrame(rows)


def resampled_shares(
    results: Results, found: DataFrame, plane: str, draws: int = 500, *, at_price: bool = False
) -> dict[str, Values]:
    """Return the share of the common front per method in every bootstrap draw of test prompts.

    `at_price` as `found` has it.
    """
    chosen = PLANES[plane]
    test = found[found["split"] == "test"]
    strength = judged_at if at_price else own_strength
    known = {
        record.id: per_prompt(results, record, "test", strength(record))
        for record in results.records
    }
    e_0s, fs = np.stack([one for cell in test["cell"] if (one := known[cell]) is not None], axis=1)
    generator = np.random.default_rng(0)
    found_shares: dict[str, list[float]] = {}
    for _ in range(draws):
        drawn = generator.integers(e_0s.shape[1], size=e_0s.shape[1])
        e_0 = e_0s[:, drawn].mean(axis=1)
        other = test[chosen.column].to_numpy(float)
        if chosen.column == "F":
            other = fs[:, drawn].mean(axis=1)
        for method, share in shares(test["method"], e_0, chosen.maximised(other)).items():
            found_shares.setdefault(method, []).append(share)
    return {method: np.array(values) for method, values in found_shares.items()}
