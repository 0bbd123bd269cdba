"""What every hyperparameter does to a trained method, the others at their first value."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from pandas import DataFrame, concat, isna

from reports import style
from reports.figures.marks import looks_of_names
from reports.figures.panels import Panel, canvas_of, legend, rows_of, total_of
from reports.load import Results, of_pair, plain_name
from reports.palette import Look
from tasks.errors import UserInputError

QUANTITIES = {
    "E_0": "E₀",
    "F": "F (nats)",
    "count": "|θ| ≥ 0.01",
    "smallest_k": "smallest k",
    "mean_size": "mean |score|",
}
NAMES = {
    "method.initial_deviation": "initial noise",
    "method.learning_rate": "learning rate",
    "method.batch_size": "batch size",
    "method.epochs": "epochs",
    "objective.margin": "margin m",
    "objective.lambda_m": "weight λ_M",
    "objective.lambda_f": "weight λ_F",
    "prompts.train": "train prompts",
}
ALL_PROMPTS = "all"
COLUMNS = ("cell", "method", "hyperparameter", "value", "split", *QUANTITIES)
PANEL, LABELS = Panel(1.35, 0.88), 0.5
HEIGHT, STACKED = 6.0, 4.4
"""Inches: of a hyperparameter, of the names of the quantities; of all quantities."""


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a method, hyperparameter, value and split.

    Columns: cell, method, hyperparameter, value (text), split, and the quantities of
    `QUANTITIES`. Raises UserInputError where nothing was varied.
    """
    frame = results.table
    wanted = {"model": [model], "task": [task], "status": ["done"], "trained": [True]}
    for name, values in (wanted | {"split": ["train", "test"]}).items():
        frame = frame[frame[name].isin(values)]
    rows: list[DataFrame] = []
    for method, group in frame.groupby(frame["method"].map(plain_name), sort=False):
        rows += _of_method(results, str(method), group)
    if not rows:
        raise UserInputError(
            f"{results.store.directory}: no hyperparameter of a trained method was varied alone on "
            f"{model} · {task}; `grid: alone` does that."
        )
    return concat(rows, ignore_index=True)


def _of_method(results: Results, method: str, group: DataFrame) -> list[DataFrame]:
    """The rows of each hyperparameter, whose cells have all others at their usual value."""
    settings = [name for name in NAMES if name in group and group[name].nunique(dropna=False) > 1]
    text = group[settings].map(lambda value: ALL_PROMPTS if isna(value) else f"{value:g}")
    usual = {name: max(dict.fromkeys(own := [*text[name]]), key=own.count) for name in settings}
    scores = [results.small_tensors(cell)["scores"] for cell in group["cell"]]
    group = group.rename(columns={"minimality_count": "count"}).assign(
        method=method, mean_size=[float(np.nanmean(np.abs(one))) for one in scores]
    )
    group = group.astype({"count": float, "smallest_k": float})
    rows = []
    for name in settings:
        others = [other for other in settings if other != name]
        alone = (text[others] == [usual[other] for other in others]).all(axis=1)
        rows.append(group.assign(hyperparameter=name, value=text[name])[alone][[*COLUMNS]])
    return rows


def _order(value: str) -> float:
    return float("inf") if value == ALL_PROMPTS else float(value)


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return a column a hyperparameter and a row a quantity; filled: test, open: train."""
    found = data(results, model=model, task=task)
    names = [name for name in NAMES if name in set(found["hyperparameter"])]
    panels = [PANEL] * len(names)
    total = total_of(panels) + LABELS if width is None else width
    blocks = rows_of(panels, total - LABELS)
    look = looks_of_names(results, found["method"])
    height = HEIGHT if len(blocks) == 1 else STACKED
    lines = [
        "each varied with the others at their usual value; filled: test prompts, open: train; "
        "one draw of prompts and one seed a point"
    ]
    canvas = canvas_of(total, height * len(blocks), f"{model} · {task}", lines)
    parts = canvas.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    columns = [
        column
        for part, block in zip(parts, blocks, strict=True)
        for column in _draw_block(part, found, [names[at] for at in block], look)
    ]
    for row in zip(*columns, strict=True):
        lows, highs = zip(*(axes.get_ylim() for axes in row), strict=True)
        for axes in row:  # all axes of a quantity have the same limits
            axes.set_ylim(min(lows), max(highs))
    if found["method"].nunique() > 1:
        legend(canvas, columns[0][0])
    return canvas


def _draw_block(
    part: SubFigure, found: DataFrame, names: list[str], look: dict[str, Look]
) -> list[list[Axes]]:
    """A column a hyperparameter, a row a quantity; return the columns."""
    panels = part.subplots(len(QUANTITIES), len(names), sharex="col", squeeze=False)
    for row, (quantity, label) in enumerate(QUANTITIES.items()):
        panels[row, 0].set_ylabel(label)
        for column, name in enumerate(names):
            _draw(panels[row, column], found[found["hyperparameter"] == name], quantity, look)
            if column:
                panels[row, column].tick_params(labelleft=False)
    for column, name in enumerate(names):
        panels[-1, column].set_xlabel(style.drawable(NAMES[name]))
    part.align_ylabels(panels[:, 0])
    return [list(panels[:, column]) for column in range(len(names))]


def _draw(axes: Axes, own: DataFrame, quantity: str, look: dict[str, Look]) -> None:
    values = sorted(set(own["value"]), key=_order)
    for method in dict.fromkeys(own["method"]):
        how = look[method]
        for split, filled in (("train", False), ("test", True)):
            part = own[(own["method"] == method) & (own["split"] == split)]
            part = part.sort_values("value", key=lambda column: column.map(_order))
            places = [values.index(value) for value in part["value"]]
            line: dict[str, Any] = {"color": how.colour, "marker": how.marker, "linewidth": 1}
            if filled:
                line["label"] = style.drawable(method)
            else:
                line |= {"linestyle": ":", "markerfacecolor": "white"}
            axes.plot(places, part[quantity], markersize=4, **line)
    axes.set_xticks(range(len(values)), values, rotation=45, ha="right", rotation_mode="anchor")
    axes.margins(x=0.12)
    axes.tick_params(labelsize=style.TINY)
