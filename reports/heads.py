"""Attention heads: which of them methods single out, and how far they agree on it."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.agreement import kendall
from bench.records import CellRecord
from bench.results import Cell
from bench.table import variant_labels
from reports.load import Results
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from pandas import DataFrame

TOP = 10


@dataclass(frozen=True)
class HeadScores:
    """One method's scores of the heads of one site: (layer, head), at the grid's one position.

    Attributes:
        method: label as in the leaderboard.
        draws: (cell, layer, head): the scores of each refit.
    """

    method: str
    site: str
    record: CellRecord
    cell: Cell
    draws: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """The scores of the first refit: what a figure shows."""
        first: NDArray[np.float64] = self.draws[0]
        return first

    def top(self, k: int = TOP, draw: int = 0) -> list[tuple[int, int]]:
        """Return the k heads of largest |score| as (layer, head), the largest first."""
        sizes = np.nan_to_num(np.abs(self.draws[draw]), nan=-1.0)
        order = np.argsort(-sizes, axis=None, kind="stable")[:k]
        return [(int(place // sizes.shape[1]), int(place % sizes.shape[1])) for place in order]


def head_scores(results: Results, model: str, task: str) -> list[HeadScores]:
    """Return the head scores of every method that has them at one position, controls left out.

    Raises UserInputError where no method has.
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
    labels = variant_labels(records)
    groups: dict[str, list[CellRecord]] = {}
    for record in records:
        groups.setdefault(labels[record.id], []).append(record)
    return [_read(results, label, group) for label, group in groups.items()]


def _read(results: Results, label: str, group: list[CellRecord]) -> HeadScores:
    cells = [results.cell(record.id) for record in group]
    # (head, layer, 1) -> (layer, head)
    draws = [cell.tensors["scores"][..., 0].T.astype(np.float64) for cell in cells]
    grid = group[0].grid
    assert grid is not None
    return HeadScores(label, grid.sites[0], group[0], cells[0], np.stack(draws))


def overlap(one: HeadScores, other: HeadScores, k: int = TOP, draw: int = 0) -> int:
    """Return how many of the k heads of largest |score| two methods have in common."""
    return len({*one.top(k, draw)} & {*other.top(k, draw)})


def overlap_by_chance(k: int, n_heads: int) -> tuple[float, int]:
    """Return the mean overlap of two random choices of k heads, and its 95th percentile."""
    from scipy.stats import hypergeom

    chance = hypergeom(n_heads, k, k)
    return k * k / n_heads, int(chance.ppf(0.95))


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a pair of methods and refit that both have.

    Columns: method_a, method_b, draw, tau (Kendall, over all heads), k, overlap (heads in common
    among the k largest), chance, chance_high (mean and 95th percentile of random choices), n_heads,
    top_a, top_b (the largest head of each).
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    rows = []
    for one, other in combinations(head_scores(results, model, task), 2):
        for draw in range(min(len(one.draws), len(other.draws))):
            n_heads = one.scores.size
            k = min(TOP, n_heads)
            chance, high = overlap_by_chance(k, n_heads)
            rows.append(
                {
                    "method_a": one.method,
                    "method_b": other.method,
                    "draw": draw,
                    "tau": kendall(one.draws[draw], other.draws[draw]),
                    "k": k,
                    "overlap": overlap(one, other, k, draw),
                    "chance": chance,
                    "chance_high": high,
                    "n_heads": n_heads,
                    "top_a": name_of(one.top(1, draw)[0]),
                    "top_b": name_of(other.top(1, draw)[0]),
                }
            )
    columns = ["method_a", "method_b", "draw", "tau", "k", "overlap", "chance", "chance_high"]
    return DataFrame(rows, columns=[*columns, "n_heads", "top_a", "top_b"])


def name_of(head: tuple[int, int]) -> str:
    """Return `16.8` for head 8 of layer 16."""
    return f"{head[0]}.{head[1]}"
