"""Kendall's tau between every two methods of a model and task, with its interval."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.table import variant_labels
from reports import style
from reports.load import Results
from reports.tables.agreement import table
from reports.text import UNDEFINED, number, shorten, visible
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

# inches
BOX_WIDTH, BOX_HEIGHT = 0.92, 0.46
MARGIN, HEAD = 0.15, 0.75


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return the pairs that the figure shows, as `reports.tables.agreement` has them."""
    model, task = results.one(model, task)
    pairs = table(results, model=model, task=task)
    if pairs.empty:
        raise UserInputError(f"{results.store.directory} stores no agreement for {model} · {task}")
    return pairs


def figure(results: Results, *, model: str | None = None, task: str | None = None) -> "Figure":
    """Return the lower triangle of tau between methods: number, interval under it, colour.

    An undefined tau is a hatched box that says so. Raises UserInputError where the run stores no
    agreement for this model and task.
    """
    from matplotlib.figure import Figure

    model, task = results.one(model, task)
    pairs = data(results, model=model, task=task).to_dict("records")
    records = results.of(model, task)
    of_cell = variant_labels(records)
    trained = {of_cell[record.id]: record.trained for record in records}
    methods = sorted(
        {row[key] for row in pairs for key in ("method_a", "method_b")},
        key=lambda method: (trained.get(method, False), method),
    )
    labels = [style.drawable(shorten(method, 36)) for method in methods]
    room = max(style.width_of(label, style.SMALL) for label in labels) + 0.15
    boxes = len(methods) - 1
    width = MARGIN + room + boxes * BOX_WIDTH + MARGIN + 0.5
    height = HEAD + boxes * BOX_HEIGHT + 0.72 * room + MARGIN
    with style.context():
        canvas = Figure(figsize=(max(width, 4.5), height))
        width = canvas.get_figwidth()
        title = style.drawable(visible(f"{model} · {task}"))
        x = MARGIN / width
        canvas.text(x, 1 - 0.15 / height, title, va="top", fontsize=style.LARGE, fontweight="bold")
        text = "Kendall's τ-b between the scores of two methods, interval below"
        y = 1 - 0.42 / height
        canvas.text(x, y, text, va="top", fontsize=style.SMALL, color=style.MUTED)
        axes = canvas.add_axes(
            (
                (MARGIN + room) / width,
                (0.72 * room + MARGIN) / height,
                boxes * BOX_WIDTH / width,
                boxes * BOX_HEIGHT / height,
            )
        )
        _draw_boxes(axes, methods, pairs)
        axes.set_xticks(range(boxes), labels[:-1], rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(boxes), labels[1:])
        return style.literal(canvas)


def _draw_boxes(axes: "Axes", methods: list[str], pairs: list[dict[str, Any]]) -> None:
    size = len(methods) - 1
    taus = np.full((size, size), np.nan)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=4)
    for row in pairs:
        low, high = sorted((methods.index(row["method_a"]), methods.index(row["method_b"])))
        place = (high - 1, low)
        taus[place] = row["tau"]
        if np.isnan(row["tau"]):
            _undefined(axes, place)
            continue
        ink = "white" if abs(row["tau"]) > 0.55 else style.INK
        where: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(low, high - 1 - 0.17, number(row["tau"], 2), fontsize=style.FONT_SIZE, **where)
        if np.isfinite(row["low"]) and np.isfinite(row["high"]):
            interval = f"[{number(row['low'], 2)}, {number(row['high'], 2)}]"
            axes.text(low, high - 1 + 0.22, interval, fontsize=style.TINY, **where)
    axes.imshow(np.ma.masked_invalid(taus), cmap=style.diverging(), vmin=-1, vmax=1, aspect="auto")
    axes.hlines(np.arange(size + 1) - 0.5, -0.5, size - 0.5, color="white", linewidth=1.5)
    axes.vlines(np.arange(size + 1) - 0.5, -0.5, size - 0.5, color="white", linewidth=1.5)


def _undefined(axes: "Axes", place: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    corner = (place[1] - 0.5, place[0] - 0.5)
    box = Rectangle(corner, 1, 1, facecolor=style.EXCLUDED, hatch="//////", edgecolor=style.FAINT)
    axes.add_patch(box)
    axes.text(
        *(place[1], place[0], UNDEFINED),
        ha="center",
        va="center",
        fontsize=style.SMALL,
        bbox={"facecolor": style.EXCLUDED, "edgecolor": "none", "pad": 1},
    )
