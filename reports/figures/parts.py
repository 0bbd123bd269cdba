"""What the paper's figures share: panels of scores, titles, colours of methods."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord, PromptRecord
from reports import style
from reports.load import Results, plain_name
from reports.text import significant, token, visible
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

KEY = "blue favours the answer, orange the foil; hatched points are excluded"


def cells_of(results: Results, model: str, task: str, method: str, what: str) -> list[CellRecord]:
    """Return the finished cells of a method, whatever its settings.

    Raises UserInputError, opened by `what` needs them, where there are none.
    """
    records = [
        record
        for record in results.of(model, task)
        if plain_name(record.method) == method and record.status == "done"
    ]
    if not records:
        raise UserInputError(
            f"{what} needs finished cells of {method}; {results.store.directory} has none for "
            f"{model} · {task}."
        )
    return records


def token_names(prompt: PromptRecord, positions: Sequence[int]) -> list[str]:
    """Return the tokens at positions of a prompt, as they can be drawn."""
    return [style.drawable(token(prompt.tokens[position])) for position in positions]


def head(canvas: "Figure", title: str, lines: Sequence[str], width: float) -> None:
    """Write the title and lines of explanation above everything, cut to the width in inches."""
    texts = [style.fit(visible(title), 0.88 * width, style.LARGE, bold=True)]
    height = float(canvas.get_figheight())
    canvas.text(
        0.12 / width, 1 - 0.1 / height, texts[0], va="top",
        fontsize=style.LARGE, fontweight="bold",
    )  # fmt: skip
    for place, line in enumerate(lines):
        text = style.fit(line, 0.88 * width, style.SMALL)
        y = 1 - (0.36 + 0.16 * place) / height
        canvas.text(0.12 / width, y, text, va="top", fontsize=style.SMALL, color=style.MUTED)


def head_room(lines: int) -> float:
    """Return the inches that `head` takes."""
    return 0.42 + 0.16 * lines


def canvas_of(width: float, height: float, title: str, lines: Sequence[str]) -> "Figure":
    """Return a figure with `height` inches of panels under its head, laid out by matplotlib.

    Call it, and all that draws on it, inside `style.context()`.
    """
    from matplotlib.figure import Figure

    room = head_room(len(lines))
    canvas = Figure(figsize=(width, height + room), layout="constrained")
    engine = canvas.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, height / (height + room)))  # type: ignore[call-arg]
    head(canvas, title, lines, width)
    return canvas


def draw_map(
    axes: "Axes",
    values: NDArray[Any],
    columns: Sequence[str],
    limit: float,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "layer",
    cmap: Any = None,
    low: float | None = None,
) -> Any:
    """Draw (layer, column) scores with a scale symmetric around zero; return the image.

    `low` gives the scale another lower end: for quantities without a sign.
    """
    axes.patch.set(facecolor=style.EXCLUDED, hatch="//////", edgecolor=style.MUTED, linewidth=0)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=style.diverging() if cmap is None else cmap,
        vmin=-limit if low is None else low,
        vmax=limit,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
    )
    n_layers, n_columns = values.shape
    turned = any(len(name) > 2 for name in columns)
    axes.set_xticks(range(n_columns), columns, rotation=90 if turned else 0)
    layers = range(0, n_layers, 5 if n_layers > 12 else 1)
    axes.set_yticks(layers, [str(layer) for layer in layers])
    axes.tick_params(length=1.5, pad=1.5)
    if title:
        axes.set_title(title, loc="left", pad=4)
    axes.set_xlabel(x_label, labelpad=2)
    axes.set_ylabel(y_label, labelpad=2)
    return image


def draw_bar(canvas: "Figure", image: Any, axes: Any, label: str = "") -> None:
    """Draw the colour bar of an image beside its axes, labelled at its ends and its middle."""
    bar = canvas.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=24)
    low, high = image.get_clim()
    ticks = [low, (low + high) / 2, high]
    bar.ax.set_yticks(ticks, [significant(tick, 2) for tick in ticks])
    bar.ax.tick_params(length=1.5, pad=1.5)
    bar.set_label(label)


def limit_of(*arrays: NDArray[Any]) -> float:
    """Return the largest size in all arrays: the end of a scale symmetric around zero."""
    sizes = [float(np.abs(array[np.isfinite(array)]).max(initial=0)) for array in arrays]
    return max(sizes) or 1.0


def fitted(canvas: "Figure", width: float | None) -> "Figure":
    """Return the finished figure, as a whole made smaller or larger to `width` inches.

    Panels side by side need their room, so letters, lines and markers change with them, as in a
    picture that is included at that width. Call it inside `style.context()`.
    """
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    style.literal(canvas)
    natural = float(canvas.get_figwidth())
    if width is None:
        return canvas
    factor = width / natural
    canvas.set_size_inches(width, factor * canvas.get_figheight())
    for axes in canvas.axes:
        for which in ("x", "y"):
            size = next((text.get_fontsize() for text in _labels(axes, which)), style.SMALL)
            axes.tick_params(
                axis=which, labelsize=factor * float(size), pad=1.5 * factor, length=1.5
            )
    labels = _all_labels(canvas)
    for text in canvas.findobj(Text):
        if isinstance(text, Text) and text not in labels:
            text.set_fontsize(factor * float(text.get_fontsize()))
    for line in canvas.findobj(Line2D):
        if isinstance(line, Line2D):
            line.set_linewidth(factor * float(line.get_linewidth()))
            line.set_markersize(factor * line.get_markersize())
    return style.literal(canvas)


def _labels(axes: "Axes", which: str) -> Sequence["Text"]:
    axis = axes.xaxis if which == "x" else axes.yaxis
    return list(axis.get_ticklabels())


def _all_labels(canvas: "Figure") -> set["Text"]:
    return {text for axes in canvas.axes for which in "xy" for text in _labels(axes, which)}
