"""How far methods agree: Kendall's tau-b between their scores over the points of a grid.

Raw scores are compared, never those after tuning: a negative beta* would reverse every rank.
Torch-free.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.agreement.kendall import Scores, kendall, problem_of, rounded, tau_of
from bench.agreement.points import (
    FIT_SPLIT,
    Point,
    at_points,
    compared_points,
    differing_points,
    points_of,
)
from bench.agreement.where import Where, agreement_on_where
from bench.store.cells import Cell
from bench.store.records import CellRecord
from bench.store.tidy import variant_labels

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["COLUMNS", "Point", "agreement_table", "compared_points", "kendall"]
COLUMNS = (
    *("model", "task", "method_a", "method_b", "tau", "low", "high"),
    *("interval_from", "n_points", "status"),
    *Where._fields,
    *("size_low", "size_high"),
)
INTERVAL = (2.5, 97.5)  # percent


def agreement_table(
    records: Iterable[CellRecord],
    read: Callable[[str], Cell],
    *,
    resamples: int = 200,
) -> "DataFrame":
    """Return tau-b between every two methods of a (model, task), controls left out.

    Left out too are points that either method excludes or lacks, and the last layer at other
    positions than the answer position (values apart): no path leads from there to the answer.

    tau compares scores averaged over a method's seeds. The interval (2.5 to 97.5 %) is that of tau
    (and of size_tau) over `resamples` bootstrap draws: an untrained method with scores per prompt
    draws its prompts again (two methods draw the same ones where both saw the same), a trained
    method with several seeds its seeds. A method with neither is held fixed, and where both are
    there is no interval.

    Args:
        records: of cells, finished or not; neither their prompts nor their grid are looked at.
        read: id -> the whole cell. Asked once for every cell that is compared, and for the cells of
            one method at a time: what is kept of each is its scores.
        resamples: how many draws; 0 for no intervals.

    Returns:
        A row a pair: model, task, method_a, method_b (labels as in the leaderboard, sorted),
        tau, low, high (NaN: undefined), interval_from ("prompts / seeds": what was drawn again
        for a and b; "none"), n_points compared, status of tau ("ok" or "undefined: ..."), and how
        far the two agree on where, whatever the sign: the fields of `bench.agreement.where.Where`,
        size_low and size_high (of size_tau). tau itself is undefined between scores that have a
        sign and scores that have none.
    """
    from pandas import DataFrame

    groups: dict[tuple[str, str], list[CellRecord]] = {}
    for record in records:
        if record.status == "done" and not record.control:
            groups.setdefault((record.model, record.task), []).append(record)
    rows = []
    for (model, task), group in sorted(groups.items()):
        for one, other in combinations(_ranked(group, read), 2):
            rows.append({"model": model, "task": task, **_compare(one, other, resamples)})
    return DataFrame(rows, columns=list(COLUMNS))


def _ranked(group: Sequence[CellRecord], read: Callable[[str], Cell]) -> list["_Ranked"]:
    """What the methods of a (model, task) have scored, by label; none for a method alone."""
    labels = variant_labels(group)
    by_method: dict[str, list[str]] = {}
    for record in group:
        by_method.setdefault(labels[record.id], []).append(record.id)
    if len(by_method) < 2:
        return []
    found = []
    for label, ids in sorted(by_method.items()):
        cells = [cell for cell in map(read, ids) if "scores" in cell.tensors]
        if cells:
            found.append(_Ranked.of(label, cells))
    return found


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A method's scores on a (model, task), and what a bootstrap draws them from.

    Attributes:
        points: the points it scored, in the order of the arrays' columns.
        scores: (point,), averaged over seeds.
        units: (prompt or seed, point); no rows where the method is held fixed.
        drawn: "prompts", "seeds" or "fixed".
        signed: whether the scores have a sign.
        differs: (point,), whether clean and corrupted run of some prompt differ there.
    """

    method: str
    points: tuple[Point, ...]
    scores: Scores
    units: Scores
    drawn: str
    signed: bool
    differs: NDArray[np.bool_]

    @classmethod
    def of(cls, method: str, cells: Sequence[Cell]) -> "_Ranked":
        """Gather a method's cells, which differ in their seeds alone."""
        points, columns = points_of(cells[0].record, cells[0].tensors["scores"])
        seeds = np.stack([at_points(columns, cell.tensors["scores"]) for cell in cells])
        drawn, units = "fixed", seeds[:0]
        prompts = _per_prompt(cells, columns)
        if not cells[0].record.trained and prompts is not None and len(prompts) > 1:
            drawn, units = "prompts", prompts
        elif cells[0].record.trained and len(seeds) > 1:
            drawn, units = "seeds", seeds
        first = cells[0].record
        differs = differing_points(first, points)
        return cls(method, points, seeds.mean(axis=0), units, drawn, first.signed, differs)

    def draws(self, resamples: int) -> Scores:
        """(draw, point): the scores in every draw; no rows where the method is held fixed."""
        return _bootstrap(self.units, resamples, self.drawn) if len(self.units) else self.units


def _compare(one: _Ranked, other: _Ranked, resamples: int) -> dict[str, Any]:
    """One row of the table."""
    index = {point: column for column, point in enumerate(other.points)}
    shared = [column for column, point in enumerate(one.points) if point in index]
    matching = [index[one.points[column]] for column in shared]
    where = agreement_on_where(one.scores[shared], other.scores[matching], one.differs[shared])
    a, b = rounded(one.scores[shared]), rounded(other.scores[matching])
    comparable = one.signed == other.signed
    tau = tau_of(a, b) if comparable else float("nan")
    low, high, size_low, size_high = [np.nan] * 4
    interval_from = "none"
    of_a, of_b = one.draws(resamples), other.draws(resamples)
    draws = max(len(of_a), len(of_b))
    if draws and not np.isnan([tau, where.size_tau]).all():
        interval_from = f"{one.drawn} / {other.drawn}"
        drawn_a = rounded(of_a[:, shared]) if len(of_a) else [a] * draws
        drawn_b = rounded(of_b[:, matching]) if len(of_b) else [b] * draws
        drawn = list(zip(drawn_a, drawn_b, strict=True))
        if not np.isnan(tau):
            low, high = _interval(drawn)
        size_low, size_high = _interval([(np.abs(x), np.abs(y)) for x, y in drawn])
    problems = [
        f"{ranked.method} has {problem}" if len(shared) > 1 else problem
        for ranked, scores in ((one, a), (other, b))
        if (problem := problem_of(scores))
    ]
    if not comparable:
        unsigned = other if one.signed else one
        problems.append(f"{unsigned.method} has scores without a sign")
    return {
        **{"method_a": one.method, "method_b": other.method},
        **{"tau": tau, "low": low, "high": high, "interval_from": interval_from},
        "n_points": len(shared),
        "status": f"undefined: {problems[0]}" if problems else "ok",
        **where._asdict(),
        **{"size_low": size_low, "size_high": size_high},
    }


def _interval(drawn: Iterable[tuple[Scores, Scores]]) -> tuple[float, float]:
    """Where tau lies over draws of both methods' scores; NaN where any draw is undefined."""
    low, high = np.percentile([tau_of(a, b) for a, b in drawn], INTERVAL)
    return float(low), float(high)


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
    seeds = np.stack([at_points(columns, cell.tensors["prompt_scores"]) for cell in cells])
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
