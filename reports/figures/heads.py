"""Attention heads at one position: which of them methods single out, and how far they agree on it.

After Fig. 7 and 8 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.stats import hypergeom

from bench.agreement.table import kendall
from bench.store.records import CellRecord
from reports import palette, style
from reports.figures.marks import draw_bar, draw_map, limit_of, look_of, marker_of
from reports.figures.panels import Panel, sheet
from reports.labels import group_cells
from reports.load import Results, of_pair, refit_of
from reports.scores import overlap, sizes_of, token_names
from reports.text import number
from tasks.errors import UserInputError

TOP, NAMED = 10, 5
"""Heads that are compared, and named under a map."""
PAPERS = {"pythia-1.4b": (16, 8), "gpt2": (11, 8)}
"""The head, as (layer, head), that the paper names in Fig. 7 and 8."""
PANEL = Panel(2.8, 2.1)
PAIR = (
    *("method_a", "method_b", "refit", "cell_a", "cell_b", "tau", "k", "overlap", "chance"),
    *("chance_high", "n_heads", "top_a", "top_b"),
)


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


def largest(scores: NDArray[np.float64], k: int) -> list[tuple[int, int]]:
    """Return the k heads of largest |score| as (layer, head), the largest first."""
    sizes = np.nan_to_num(np.abs(scores), nan=-1.0)
    order = np.argsort(-sizes, axis=None, kind="stable")[:k]
    return [(int(place // sizes.shape[1]), int(place % sizes.shape[1])) for place in order]


def overlap_by_chance(k: int, n_heads: int) -> tuple[float, int]:
    """Return the mean overlap of two random choices of k heads, and its 95th percentile."""
    chance = hypergeom(n_heads, k, k)
    return k * k / n_heads, int(chance.ppf(0.95))


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
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
            cells = (own.records[refit].id for own in (one, other))
            shared = int(overlap(a, b, np.array([k]))[0] * k + 0.5)
            first = (name_of(largest(scores, 1)[0]) for scores in (a, b))
            numbers = (kendall(a, b), k, shared, chance, high, n_heads)
            rows.append((one.method, other.method, refit, *cells, *numbers, *first))
    return DataFrame(rows, columns=[*PAIR])


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


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return a map of heads x layers for each method, and the overlap of their largest heads.

    Raises UserInputError where no method scored heads at one position.
    """
    methods = head_scores(results, model, task)
    lines = _explained(methods, PAPERS.get(model))
    panels = [PANEL] * (len(methods) + (len(methods) > 1))
    page = sheet(f"{model} · {task}", lines, panels, 3.4, width, stacked=3.0)
    for axes, one, room in zip(page.axes, methods, page.widths, strict=False):
        _draw_heads(axes, one, room - 0.6)
        if model in PAPERS:
            y, x = PAPERS[model]
            axes.plot(x, y, "s", markersize=9, markerfacecolor="none", markeredgecolor=style.INK)
    if len(methods) > 1:
        _draw_overlap(page.axes[-1], results, methods, page.widths[-1] - 0.5)
    return page.canvas


def _explained(methods: list[HeadScores], named: tuple[int, int] | None) -> list[str]:
    """What is scored, and what the marks are."""
    record = methods[0].record
    assert record.grid is not None
    prompt = record.prompts["train"][0]
    (at,) = token_names(prompt, record.grid.positions, style.token_label)
    n_prompts, n_draws = len(record.prompts["train"]), len(methods[0].draws)
    scored = f"mean scores over {n_prompts} prompts" if n_prompts > 1 else "scores of this prompt"
    draw = f" (the first of {n_draws} draws)" if n_draws > 1 else ""
    square = f"; square: {name_of(named)}, the paper's" if named else ""
    return [
        f"{methods[0].site}, head by head, at {at} of: {prompt.clean}",
        f"{scored}{draw}; {palette.current().signs}; circles: the {NAMED} largest |score|, named "
        f"under the map{square}",
    ]


def _draw_heads(axes: Axes, one: HeadScores, room: float) -> None:
    n_heads = one.scores.shape[1]
    names = [str(head) if n_heads <= 16 or head % 4 == 0 else "" for head in range(n_heads)]
    strongest = largest(one.scores, NAMED)
    named = ", ".join(name_of(head) for head in strongest)
    image = draw_map(
        axes,
        one.scores,
        names,
        limit_of(one.scores),
        title=style.fit(one.method, room, style.SMALL),
        room=room,
    )
    axes.set_xlabel("\n".join(["head", *style.wrap(named, room, style.FONT_SIZE)]))
    layers, heads = zip(*strongest, strict=True)
    for colour, wide in (("white", 2.2), (style.INK, 0.9)):  # seen on light and on dark
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour}
        axes.plot(heads, layers, "o", markersize=5, markeredgewidth=wide, **ring)
    draw_bar(image, axes)


def _draw_overlap(axes: Axes, results: Results, methods: list[HeadScores], room: float) -> None:
    """Share of the k largest heads that each other method has in common with the first."""
    first, *others = methods
    n_heads = first.scores.size
    ks = np.union1d(sizes_of(n_heads), min(TOP, n_heads))
    for other in others:
        shares = overlap(first.scores, other.scores, ks)
        label = style.fit(other.method, room - 0.8, style.SMALL)
        axes.plot(ks, shares, label=label, **marker_of(look_of(results, other.method), 2.5))
    axes.plot(ks, ks / n_heads, "--", color=style.MUTED, linewidth=1, label="chance")
    axes.set(xscale="log", ylim=(-0.03, 1.03))
    style.plain_numbers(axes.xaxis)
    axes.set_title(style.fit(f"largest k in common with {first.method}", room, style.FONT_SIZE))
    pair = data(results, model=first.record.model, task=first.record.task).iloc[0]
    said = f"τ {number(pair['tau'], 2)}, {pair['overlap']} of {pair['k']} in common"
    lines = style.wrap(said, room, style.FONT_SIZE)
    axes.set_xlabel("\n".join([f"k heads of {n_heads}", *lines]))
    axes.legend(frameon=False, loc="upper left")
