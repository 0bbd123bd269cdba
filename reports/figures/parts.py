"""What the paper's figures share: maps of scores and their colour bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.store.records import CellRecord, PromptRecord
from reports import palette, style
from reports.figures.signed import draw_scores
from reports.load import Results, plain_name
from reports.text import significant, token
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def key() -> str:
    """Return what the colours of a score map say, in the palette in use."""
    return f"{palette.current().signs}; hatched points are excluded"


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


def draw_map(
    axes: "Axes",
    values: NDArray[Any],
    columns: Sequence[str],
    limit: float,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "layer",
    low: float | None = None,
) -> Any:
    """Draw (layer, column) scores with a scale symmetric around zero; return the image.

    `low` gives the scale another lower end, whose middle then takes the place of zero.
    """
    image = draw_scores(axes, values, limit, low=low)
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


def draw_bar(image: Any, axes: "Axes", label: str = "") -> None:
    """Draw the colour bar of an image beside its axes, labelled at its ends and its middle."""
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=24)
    low, high = image.get_clim()
    ticks = [low, (low + high) / 2, high]
    bar.ax.set_yticks(ticks, [significant(tick, 2) for tick in ticks])
    bar.ax.tick_params(length=1.5, pad=1.5)
    bar.set_label(label)


def limit_of(*arrays: NDArray[Any]) -> float:
    """Return the largest size in all arrays: the end of a scale symmetric around zero."""
    sizes = [float(np.abs(array[np.isfinite(array)]).max(initial=0)) for array in arrays]
    return max(sizes) or 1.0
