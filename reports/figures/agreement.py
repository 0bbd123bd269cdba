"""How far every two methods of a model and task agree: on which way points work, and on where."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from reports import style
from reports.figures.marks import draw_numbers
from reports.figures.panels import canvas_of
from reports.load import Results, of_pair, of_part
from reports.tables.agreement import pooled, table
from reports.text import distinct, number
from reports.text import interval as interval_text
from tasks.errors import UserInputError

BOX_WIDTH, BOX_HEIGHT = 0.92, 0.46
"""Inches of a pair."""


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return the pairs that the figure shows, as `reports.tables.agreement` has them."""
    pairs = table(results, model=model, task=task)
    if pairs.empty:
        raise UserInputError(f"{results.store.directory} stores no agreement for {model} · {task}")
    return pairs


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return two triangles of tau between methods: number, interval under it, colour.

    Below the diagonal tau of scores (which way), above it tau of |score| (where). Methods are
    ordered by clustering (average linkage on 1 - tau of |score|, which is defined for all of them,
    or of scores where the run does not have it), so that those that agree stand together. An
    undefined tau is a hatched box that says so. Where boxes are too narrow for legible numbers
    (many methods on little width) colour and a dash say it; the data have the numbers.
    Raises UserInputError where the run stores no agreement for this model and task.
    """
    return _draw(data(results, model=model, task=task), f"{model} · {task}", "", width)


@of_part
def pooled_data(results: Results) -> DataFrame:
    """Return tau of every pair averaged over a model's tasks (`reports.tables.agreement`)."""
    pairs = pooled(results)
    if pairs.empty or len(set(pairs["model"])) > 1:
        raise UserInputError("pooled agreement needs one model with agreement on several tasks")
    return pairs


@of_part
@style.drawing
def pooled_figure(results: Results, width: float | None = None) -> Figure:
    """Return what `figure` shows, averaged over the tasks of a model. Errors as `pooled_data`."""
    frame = pooled_data(results)
    return _draw(frame, str(frame["model"].iloc[0]), ", mean over tasks (drawn again)", width)


def matrix_of(pairs: DataFrame, methods: list[str], column: str = "tau") -> NDArray[np.float64]:
    """Return (method, method): what a column says of every two, whichever leads, else NaN."""
    found = pairs.pivot_table(index="method_a", columns="method_b", values=column, dropna=False)
    found = found.reindex(index=methods, columns=methods)
    return np.array(found.fillna(found.T), dtype=float)


def clustered(pairs: DataFrame) -> list[str]:
    """Return the methods of `pairs` in the order of their clustering by agreement on where."""
    methods = sorted({*pairs["method_a"], *pairs["method_b"]})
    column = "size_tau" if pairs["size_tau"].notna().any() else "tau"
    distance = 1 - np.nan_to_num(matrix_of(pairs, methods, column))
    np.fill_diagonal(distance, 0)
    if len(methods) < 3:
        return methods
    tree = linkage(squareform(distance), "average", optimal_ordering=True)
    return [methods[leaf] for leaf in leaves_list(tree)]


def _draw(pairs: DataFrame, title: str, note: str, width: float | None) -> Figure:
    methods = clustered(pairs)
    boxes = len(methods)
    taus = np.full((boxes, boxes), np.nan)
    numbers, intervals = np.full((2, boxes, boxes), "", dtype=object)
    for row in pairs.itertuples():
        low, high = sorted((methods.index(row.method_a), methods.index(row.method_b)))
        which_way, where = (row.tau, row.low, row.high), (row.size_tau, row.size_low, row.size_high)
        for box, (tau, lower, upper) in (((high, low), which_way), ((low, high), where)):
            taus[box], numbers[box] = tau, number(tau, 2)
            known = np.isfinite([lower, upper]).all()
            intervals[box] = interval_text(lower, upper, 2) if known else ""
    labels = [style.drawable(name) for name in distinct(methods, 22 if width and width < 5 else 36)]
    room = max(style.width_of(label, style.SMALL) for label in labels)
    total = width or max(boxes * BOX_WIDTH + room + 0.4, 4.5)
    lines = [
        f"Kendall's τ-b{note}, 95 % intervals where they fit. Lower left: of scores (which way); "
        "upper right: of |scores| (where)"
    ]
    canvas = canvas_of(total, boxes * BOX_HEIGHT + 0.72 * room + 0.3, title, lines)
    axes = canvas.add_subplot()
    size = style.letters(total)
    axes.set_xticks(
        range(boxes), labels, fontsize=size, rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(boxes), labels, fontsize=size)
    draw_numbers(axes, taus, numbers, intervals)
    return canvas
