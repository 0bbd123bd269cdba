"""Kendall's tau between every two methods of a model and task, with its interval."""

from typing import TYPE_CHECKING, Any

import numpy as np

from reports import style
from reports.figures.panels import headed
from reports.figures.signed import EVEN, draw_dashes, luminance
from reports.load import Results
from reports.tables.agreement import pooled, table
from reports.text import UNDEFINED, distinct, number
from reports.text import interval as interval_text
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

# inches
BOX_WIDTH, BOX_HEIGHT = 0.92, 0.46
MARGIN = 0.15
LEGIBLE = 4.5  # points


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return the pairs that the figure shows, as `reports.tables.agreement` has them."""
    model, task = results.one(model, task)
    pairs = table(results, model=model, task=task)
    if pairs.empty:
        raise UserInputError(f"{results.store.directory} stores no agreement for {model} · {task}")
    return pairs


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    width: float | None = None,
) -> "Figure":
    """Return the lower triangle of tau between methods: number, interval under it, colour.

    Methods are ordered by clustering (average linkage on 1 - tau), so that those that agree stand
    together. An undefined tau is a hatched box that says so. Where boxes are too narrow for
    legible numbers (many methods on little width) colour and a dash say it; the data have the
    numbers.
    Raises UserInputError where the run stores no agreement for this model and task.
    """
    model, task = results.one(model, task)
    pairs = data(results, model=model, task=task).to_dict("records")
    return _draw(pairs, f"{model} · {task}", "interval {where}", width)


def pooled_data(
    results: Results, *, model: str | None = None, task: str | None = None
) -> "DataFrame":
    """Return tau of every pair averaged over a model's tasks (`reports.tables.agreement`)."""
    pairs = pooled(results, model=model, task=task)
    if pairs.empty or len(set(pairs["model"])) > 1:
        raise UserInputError("pooled agreement needs one model with agreement on several tasks")
    return pairs


def pooled_figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    width: float | None = None,
) -> "Figure":
    """Return what `figure` shows, averaged over the tasks of a model. Errors as `pooled_data`."""
    frame = pooled_data(results, model=model, task=task)
    note = "mean over tasks; interval {where}: tasks drawn again"
    return _draw(frame.to_dict("records"), str(frame["model"].iloc[0]), note, width)


def clustered(pairs: list[dict[Any, Any]]) -> list[str]:
    """Return the methods of `pairs` in the order of their clustering by tau."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    methods = sorted({row[key] for row in pairs for key in ("method_a", "method_b")})
    distance = np.ones((len(methods), len(methods)))
    np.fill_diagonal(distance, 0)
    for row in pairs:
        place = methods.index(row["method_a"]), methods.index(row["method_b"])
        if np.isfinite(row["tau"]):
            distance[place] = distance[place[::-1]] = 1 - row["tau"]
    if len(methods) < 3:
        return methods
    tree = linkage(squareform(distance), "average", optimal_ordering=True)
    return [methods[leaf] for leaf in leaves_list(tree)]


def _draw(pairs: list[dict[Any, Any]], title: str, note: str, width: float | None) -> "Figure":
    methods = clustered(pairs)
    narrow = width is not None and width < 5
    size = style.TINY if narrow else style.SMALL
    labels = [style.drawable(name) for name in distinct(methods, 22 if narrow else 36)]
    room = max(style.width_of(label, size) for label in labels) + 0.15
    boxes = len(methods) - 1
    slant = 0.72 * room
    box = BOX_WIDTH if width is None else (width - 2 * MARGIN - room - 0.05) / boxes
    width = width or max(MARGIN + room + boxes * box + MARGIN + 0.5, 4.5)
    fits = _fitting(interval_text(-0.01, -0.01, 2), box, style.TINY)
    note = note.format(where="below" if fits else "in the data")
    with style.context():
        lines = [f"Kendall's τ-b between scores; {note}"]
        canvas, _ = headed(width, 0.1 + boxes * BOX_HEIGHT + slant + MARGIN, title, lines)
        height = canvas.get_figheight()
        axes = canvas.add_axes(
            (
                (MARGIN + room) / width,
                (slant + MARGIN) / height,
                boxes * box / width,
                boxes * BOX_HEIGHT / height,
            )
        )
        _draw_boxes(axes, methods, pairs, box)
        how: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(boxes), labels[:-1], fontsize=size, **how)
        axes.set_yticks(range(boxes), labels[1:], fontsize=size)
        return style.literal(canvas)


def _draw_boxes(axes: "Axes", methods: list[str], pairs: list[dict[Any, Any]], box: float) -> None:
    size = len(methods) - 1
    taus, unlabelled = np.full((2, size, size), np.nan)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=4)
    for row in pairs:
        low, high = sorted((methods.index(row["method_a"]), methods.index(row["method_b"])))
        place = (high - 1, low)
        taus[place] = row["tau"]
        if np.isnan(row["tau"]):
            _undefined(axes, place, box)
            continue
        ink = "white" if _is_dark(row["tau"]) else style.INK
        interval = ""
        if np.isfinite(row["low"]) and np.isfinite(row["high"]):
            interval = interval_text(row["low"], row["high"], 2)
        where: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        below = _fitting(interval, box, style.TINY) if interval else 0.0
        if below:
            axes.text(low, high - 1 + 0.22, interval, fontsize=below, **where)
        text = number(row["tau"], 2)
        if points := _fitting(text, box, style.FONT_SIZE):
            axes.text(low, high - 1 - (0.17 if below else 0), text, fontsize=points, **where)
        else:
            unlabelled[place] = row["tau"]
    axes.imshow(np.ma.masked_invalid(taus), cmap=style.diverging(), vmin=-1, vmax=1, aspect="auto")
    draw_dashes(axes, unlabelled)
    axes.hlines(np.arange(size + 1) - 0.5, -0.5, size - 0.5, color="white", linewidth=1.5)
    axes.vlines(np.arange(size + 1) - 0.5, -0.5, size - 0.5, color="white", linewidth=1.5)


def _is_dark(tau: float) -> bool:
    """Whether white letters are read more easily on the colour of `tau`."""
    return bool(luminance(style.diverging()((tau + 1) / 2)) < EVEN)


def _fitting(text: str, box: float, largest: float) -> float:
    """The size in points at which a text fits a box, 0 where it could not be read."""
    size = min(largest, largest * (box - 0.04) / style.width_of(text, largest))
    return size if size >= LEGIBLE else 0.0


def _undefined(axes: "Axes", place: tuple[int, int], box_width: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (place[1] - 0.5, place[0] - 0.5)
    box = Rectangle(corner, 1, 1, facecolor=style.EXCLUDED, hatch="//////", edgecolor=style.FAINT)
    axes.add_patch(box)
    if points := _fitting(UNDEFINED, box_width, style.SMALL):
        axes.text(
            *(place[1], place[0], UNDEFINED),
            ha="center",
            va="center",
            fontsize=points,
            bbox={"facecolor": style.EXCLUDED, "edgecolor": "none", "pad": 1},
        )
