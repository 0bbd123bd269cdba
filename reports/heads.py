"""Attention heads: which of them methods single out, and how far they agree on it."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.stats import hypergeom

from bench.agreement.table import kendall
from bench.store.records import CellRecord
from reports.generalisation import refit_of
from reports.labels import group_cells
from reports.load import Results, of_pair
from reports.scores import overlap
from tasks.errors import UserInputError

TOP = 10


@dataclass(frozen=True)
class HeadScores:
    """One method's scores of the heads of one site: (layer, head), at the grid's one position.

    Attributes:
        method: label as in the leaderboard.
        records: a cell a refit; the first is what a figure shows.
        draws: (layer, head) of every refit (see `refit_of`).
    """

    method: str
    site: str
    records: dict[str, CellRecord]
    draws: dict[str, NDArray[np.float64]]

    @property
    def record(self) -> CellRecord:
        """The cell of the first refit."""
        return next(iter(self.records.values()))

    @property
    def scores(self) -> NDArray[np.float64]:
        """The scores of the first refit."""
        return next(iter(self.draws.values()))


def head_scores(results: Results, model: str, task: str) -> list[HeadScores]:
    """Return the head scores of every method that has them at one position, controls left out.

    What was measured under the same refits leads. Raises UserInputError where no method has any.
    """
    records = [
        record
        for record in results.of(model, task)
        if not record.control
        and record.status == "done"
        and record.grid is not None
        and len(record.grid.heads) == 1
        and len(record.grid.sites) == 1
        and len(record.grid.positions) == 1
    ]
    if not records:
        raise UserInputError(
            f"{results.store.directory} has no scores of heads at one position on {model} · "
            f"{task}; `sites: [o]` with `positions: last` makes some."
        )
    groups = {
        label: {refit_of(record): record for record in group}
        for label, group in group_cells(records).items()
    }
    of_all = [set(own) for own in groups.values()]
    shared = [refit for own in groups.values() for refit in own if all(refit in s for s in of_all)]
    found = []
    for label, own in groups.items():
        own = {refit: own[refit] for refit in dict.fromkeys([*shared, *own])}
        draws = {
            # (head, layer, 1) -> (layer, head)
            refit: results.small_tensors(record.id)["scores"][..., 0].T.astype(np.float64)
            for refit, record in own.items()
        }
        grid = next(iter(own.values())).grid
        assert grid is not None
        found.append(HeadScores(label, grid.sites[0], own, draws))
    return found


def largest(scores: NDArray[np.float64], k: int = TOP) -> list[tuple[int, int]]:
    """Return the k heads of largest |score| as (layer, head), the largest first."""
    sizes = np.nan_to_num(np.abs(scores), nan=-1.0)
    order = np.argsort(-sizes, axis=None, kind="stable")[:k]
    return [(int(place // sizes.shape[1]), int(place % sizes.shape[1])) for place in order]


def overlap_by_chance(k: int, n_heads: int) -> tuple[float, int]:
    """Return the mean overlap of two random choices of k heads, and its 95th percentile."""
    chance = hypergeom(n_heads, k, k)
    return k * k / n_heads, int(chance.ppf(0.95))


@of_pair
def table(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a pair of methods and refit that both have.

    Columns: method_a, method_b, refit, cell_a, cell_b, tau (Kendall, over all heads), k, overlap
    (heads in common among the k largest), chance, chance_high (mean and 95th percentile of random
    choices), n_heads, top_a, top_b (the largest head of each).
    """
    rows = []
    for one, other in combinations(head_scores(results, model, task), 2):
        for refit in (refit for refit in one.draws if refit in other.draws):
            a, b = one.draws[refit], other.draws[refit]
            n_heads = a.size
            k = min(TOP, n_heads)
            chance, high = overlap_by_chance(k, n_heads)
            rows.append(
                {
                    "method_a": one.method,
                    "method_b": other.method,
                    "refit": refit,
                    "cell_a": one.records[refit].id,
                    "cell_b": other.records[refit].id,
                    "tau": kendall(a, b),
                    "k": k,
                    "overlap": int(overlap(a, b, np.array([k]))[0] * k + 0.5),
                    "chance": chance,
                    "chance_high": high,
                    "n_heads": n_heads,
                    "top_a": name_of(largest(a, 1)[0]),
                    "top_b": name_of(largest(b, 1)[0]),
                }
            )
    names = ["method_a", "method_b", "refit", "cell_a", "cell_b", "tau", "k", "overlap", "chance"]
    return DataFrame(rows, columns=[*names, "chance_high", "n_heads", "top_a", "top_b"])


@of_pair
def scores(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a method, refit, layer and head: method, refit, cell, layer, head, score."""
    rows = [
        (one.method, refit, one.records[refit].id, *place, float(score))
        for one in head_scores(results, model, task)
        for refit, draw in one.draws.items()
        for place, score in np.ndenumerate(draw)
    ]
    return DataFrame(rows, columns=["method", "refit", "cell", "layer", "head", "score"])


def name_of(head: tuple[int, int]) -> str:
    """Return `16.8` for head 8 of layer 16."""
    return f"{head[0]}.{head[1]}"
