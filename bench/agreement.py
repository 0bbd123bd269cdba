"""How far methods agree: Kendall's tau-b between their scores over the points of a grid.

Raw scores are compared, never those after tuning: a negative beta* would reverse every rank.
Torch-free.

M. G. Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord
from bench.results import Cell
from bench.table import variant_labels

if TYPE_CHECKING:
    from pandas import DataFrame

Scores = NDArray[np.float64]
Point = tuple[str, int, int]
COLUMNS = (
    *("model", "task", "method_a", "method_b", "tau", "low", "high"),
    *("interval_from", "n_points", "status"),
)
TOLERANCE = 1e-6
INTERVAL = (2.5, 97.5)  # percent
FIT_SPLIT = "train"
VALUES = "v."
"""How labels of value heads begin: the answer position reads the last layer's values elsewhere."""


def kendall(
    a: Scores, b: Scores, keep: NDArray[np.bool_] | None = None, tolerance: float = TOLERANCE
) -> float:
    """Return Kendall's tau-b, in [-1, 1], between two arrays of scores of one shape.

    NaN, which means undefined, where a kept score is NaN or infinite, where all kept scores of one
    array are equal, or where fewer than two are kept.

    Args:
        a: scores of one method.
        b: scores of the other, point by point.
        keep: which points to compare; all if None.
        tolerance: scores count as tied that agree after rounding to multiples of
            `tolerance` x the largest |score| kept.
    """
    if keep is not None:
        a, b = a[keep], b[keep]
    return _tau(_rounded(np.ravel(a), tolerance), _rounded(np.ravel(b), tolerance))


def agreement_table(
    cells: Iterable[Cell], *, resamples: int = 200, tolerance: float = TOLERANCE
) -> "DataFrame":
    """Return tau-b between every two methods of a (model, task), controls left out.

    Left out too are points that either method excludes or lacks, and the last layer at other
    positions than the answer position (values apart): no path leads from there to the answer.

    tau compares scores averaged over a method's seeds. The interval (2.5 to 97.5 %) is that of tau
    over `resamples` bootstrap draws: an untrained method with scores per prompt draws its prompts
    again (two methods draw the same ones where both saw the same), a trained method with several
    seeds its seeds. A method with neither is held fixed, and where both are there is no interval.

    Args:
        cells: finished cells with their tensors.
        resamples: how many draws; 0 for no intervals.
        tolerance: see `kendall`.

    Returns:
        A row a pair: model, task, method_a, method_b (labels as in the leaderboard, sorted),
        tau, low, high (NaN: undefined), interval_from ("prompts / seeds": what was drawn again
        for a and b; "none"), n_points compared, and status ("ok" or "undefined: ...").
    """
    from pandas import DataFrame

    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if not cell.record.control and "scores" in cell.tensors:
            groups.setdefault((cell.record.model, cell.record.task), []).append(cell)
    rows = []
    for (model, task), group in sorted(groups.items()):
        labels = variant_labels([cell.record for cell in group])
        by_method: dict[str, list[Cell]] = {}
        for cell in group:
            by_method.setdefault(labels[cell.record.id], []).append(cell)
        ranked = [
            _Ranked.of(label, by_method[label], resamples, tolerance) for label in sorted(by_method)
        ]
        for one, other in combinations(ranked, 2):
            rows.append({"model": model, "task": task, **_compare(one, other, tolerance)})
    return DataFrame(rows, columns=list(COLUMNS))


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A method's scores on a (model, task), and what they are in every bootstrap draw.

    Attributes:
        points: the points it scored, in the order of the arrays' columns.
        scores: (point,), averaged over seeds.
        draws: (draw, point); no rows where the method is held fixed.
        drawn: "prompts", "seeds" or "fixed".
    """

    method: str
    points: tuple[Point, ...]
    scores: Scores
    draws: Scores
    drawn: str

    @classmethod
    def of(cls, method: str, cells: Sequence[Cell], resamples: int, tolerance: float) -> "_Ranked":
        """Gather a method's cells, which differ in their seeds alone."""
        points, columns = _points(cells[0].record, cells[0].tensors["scores"])
        seeds = np.stack([_at(columns, cell.tensors["scores"]) for cell in cells])
        drawn, units = "fixed", seeds
        prompts = _per_prompt(cells, columns)
        if not cells[0].record.trained and prompts is not None and len(prompts) > 1:
            drawn, units = "prompts", prompts
        elif cells[0].record.trained and len(seeds) > 1:
            drawn, units = "seeds", seeds
        count = resamples if drawn != "fixed" else 0
        return cls(method, points, seeds.mean(axis=0), _bootstrap(units, count, drawn), drawn)


def _compare(one: _Ranked, other: _Ranked, tolerance: float) -> dict[str, Any]:
    """One row of the table."""
    index = {point: column for column, point in enumerate(other.points)}
    shared = [column for column, point in enumerate(one.points) if point in index]
    matching = [index[one.points[column]] for column in shared]
    a, b = _rounded(one.scores[shared], tolerance), _rounded(other.scores[matching], tolerance)
    tau = _tau(a, b)
    low = high = np.nan
    interval_from = "none"
    draws = max(len(one.draws), len(other.draws))
    if draws and not np.isnan(tau):
        interval_from = f"{one.drawn} / {other.drawn}"
        drawn_a = _rounded(one.draws[:, shared], tolerance) if len(one.draws) else [a] * draws
        drawn_b = _rounded(other.draws[:, matching], tolerance) if len(other.draws) else [b] * draws
        taus = [_tau(x, y) for x, y in zip(drawn_a, drawn_b, strict=True)]
        low, high = np.percentile(taus, INTERVAL)  # NaN where any draw is undefined
    problems = [
        f"{ranked.method} has {problem}" if len(shared) > 1 else problem
        for ranked, scores in ((one, a), (other, b))
        if (problem := _problem(scores))
    ]
    return {
        **{"method_a": one.method, "method_b": other.method},
        **{"tau": tau, "low": low, "high": high, "interval_from": interval_from},
        "n_points": len(shared),
        "status": f"undefined: {problems[0]}" if problems else "ok",
    }


def _points(record: CellRecord, scores: NDArray[Any]) -> tuple[tuple[Point, ...], NDArray[np.intp]]:
    """The points of a cell to compare, and where in the flattened scores they stand."""
    grid = record.grid
    if grid is None:
        raise ValueError(f"cell {record.id} has scores but no grid")
    prompts = record.prompts.get(FIT_SPLIT, [])
    answer = len(prompts[0].token_ids) - 1 if prompts else max(grid.positions)
    last = grid.n_layers - 1
    excluded = {tuple(point) for point in grid.excluded}
    every = [
        (place.label, layer, position)
        for place in grid.places
        for layer in range(grid.n_layers)
        for position in grid.positions
    ]
    kept = [
        column
        for column, point in enumerate(every)
        if point not in excluded
        and (point[1] < last or point[2] == answer or point[0].startswith(VALUES))
    ]
    if scores.shape != (len(grid.places), grid.n_layers, len(grid.positions)):
        raise ValueError(f"cell {record.id}: scores of shape {scores.shape} do not fit its grid")
    return tuple(every[column] for column in kept), np.asarray(kept, dtype=np.intp)


def _at(columns: NDArray[np.intp], scores: NDArray[Any]) -> Scores:
    """Scores (..., place, layer, position) as (..., point), in float64."""
    flat = scores.reshape(*scores.shape[:-3], -1)
    return np.asarray(flat[..., columns], dtype=np.float64)


def _per_prompt(cells: Sequence[Cell], columns: NDArray[np.intp]) -> Scores | None:
    """(prompt, point) averaged over seeds; None where not every seed has it on the same prompts."""
    known = {
        tuple((tuple(p.token_ids), tuple(p.corrupted_ids)) for p in cell.record.prompts[FIT_SPLIT])
        if FIT_SPLIT in cell.record.prompts and "prompt_scores" in cell.tensors
        else None
        for cell in cells
    }
    if None in known or len(known) > 1:
        return None
    seeds = np.stack([_at(columns, cell.tensors["prompt_scores"]) for cell in cells])
    return np.asarray(seeds.mean(axis=0))


def _bootstrap(units: Scores, resamples: int, drawn: str) -> Scores:
    """(draw, point): means over units drawn with replacement.

    The draws depend on the number of units alone, so that methods scored on the same prompts draw
    the same ones.
    """
    generator = np.random.default_rng([len(units), *drawn.encode()])
    chosen = generator.integers(len(units), size=(resamples, len(units)))
    weights = np.zeros((resamples, len(units)))
    np.add.at(weights, (np.arange(resamples)[:, None], chosen), 1 / len(units))
    return weights @ units


def _rounded(scores: Scores, tolerance: float) -> Scores:
    """Multiples of `tolerance` x the largest |score| of each row (..., point)."""
    largest = np.max(np.abs(scores), axis=-1, keepdims=True, initial=0.0)
    step = np.where(largest > 0, largest, 1.0) * tolerance
    with np.errstate(invalid="ignore"):  # infinite scores: undefined further on
        return np.round(scores / step) if tolerance > 0 else scores


def _tau(a: Scores, b: Scores) -> float:
    """Kendall's tau-b of one-dimensional scores, NaN where one of them has a problem."""
    from scipy.stats import kendalltau

    if _problem(a) or _problem(b):
        return float("nan")
    return float(kendalltau(a, b, variant="b").statistic)


def _problem(scores: Scores) -> str:
    """Why these scores rank nothing; "" where they do."""
    if len(scores) < 2:
        return "fewer than two points in common"
    if not np.isfinite(scores).all():
        return "scores that are not numbers"
    return "" if (scores != scores[0]).any() else "the same score everywhere"


def compared_points(cell: Cell) -> tuple[tuple[Point, ...], Scores]:
    """Return the points of a cell that agreement is about, and its scores there (point,).

    Those that take part and from which a path leads to the answer position.
    """
    points, columns = _points(cell.record, cell.tensors["scores"])
    return points, _at(columns, cell.tensors["scores"])
