"""Dynamic scalars on prompts of lengths that they were not trained on: the scalars on the tokens.

After Fig. 5 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from bench.store.cells import Cell
from bench.store.records import CellRecord, MetricRow, PromptRecord
from reports import palette, style
from reports.figures.marks import BESIDE, draw_bar, draw_map, limit_of
from reports.figures.panels import Panel, sheet
from reports.load import Results, finished, of_pair
from reports.scores import token_names
from reports.text import number
from tasks.errors import UserInputError
from tasks.text import visible

METHOD = "dyn_scalar"


@dataclass(frozen=True)
class Shown:
    """The first prompt of a split, its scalars (place, layer, position), and how it is steered."""

    title: str
    split: str
    prompt: PromptRecord
    positions: Sequence[int]
    scalars: NDArray[Any]
    metrics: MetricRow | None


def _shown(results: Results, model: str, task: str) -> tuple[Cell, list[Shown]]:
    """The first train prompt, and the first test prompt of every task that it was taken to."""
    records = finished(results.of(model, task), METHOD)
    taken = [record for record in records if record.settings.get("transfer")]
    if not taken:
        raise UserInputError(
            f"{results.store.directory}: {METHOD} on {model} · {task} was taken to no other task; "
            "`transfer: [ioi]` does that."
        )
    cell = results.cell(taken[0].id)
    record, tensors = cell.record, cell.tensors
    assert record.grid is not None
    metrics = {row.split: row for row in reversed(record.metrics)}
    shown = [
        Shown(
            "trained on this prompt",
            "train",
            record.prompts["train"][0],
            record.grid.positions,
            tensors["prompt_scores"][0],
            metrics.get("train"),
        )
    ]
    for split, prompts in record.prompts.items():
        if (scalars := tensors.get(f"transfer.{split}.scalars")) is not None:
            positions = tensors[f"transfer.{split}.positions"].tolist()
            title = f"taken to {split}"
            shown.append(Shown(title, split, prompts[0], positions, scalars[0], metrics.get(split)))
    return cell, shown


def points_of(
    record: CellRecord, prompt: PromptRecord, positions: Sequence[int], scalars: NDArray[Any]
) -> list[dict[str, Any]]:
    """Return a row a point: place, layer, position, token, alpha; scalars as in `Shown`."""
    assert record.grid is not None
    labels = [place.label for place in record.grid.places]
    return [
        {
            **{"place": labels[place], "layer": layer, "position": positions[column]},
            **{"token": prompt.tokens[positions[column]], "alpha": float(alpha)},
        }
        for (place, layer, column), alpha in np.ndenumerate(scalars)
    ]


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a point of every prompt shown.

    Columns: cell, split, place, layer, position, token, alpha.
    """
    cell, shown = _shown(results, model, task)
    return DataFrame(
        [
            {"cell": cell.record.id, "split": one.split, **point}
            for one in shown
            for point in points_of(cell.record, one.prompt, one.positions, one.scalars)
        ]
    )


@of_pair
def effectiveness(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a prompt shown: cell, split, E_0 and E_0_unsteered of its split.

    Errors as `data`.
    """
    cell, shown = _shown(results, model, task)
    names = ("E_0", "E_0_unsteered")
    return DataFrame(
        [
            {"cell": cell.record.id, "split": one.split}
            | {name: getattr(one.metrics, name, None) for name in names}
            for one in shown
        ]
    )


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return a map of scalars over layers and tokens for each prompt; of several sites the first.

    Raises UserInputError where no DynScalar was taken to other tasks.
    """
    cell, shown = _shown(results, model, task)
    assert cell.record.grid is not None
    limit = limit_of(*(one.scalars for one in shown))
    tokens = [len(one.positions) for one in shown]
    panels = [Panel(max(2.0, 0.2 * count + 0.6), max(1.6, 0.12 * count + 0.7)) for count in tokens]
    colours = palette.current()
    lines = [
        f"{METHOD} at {cell.record.grid.places[0].label}: the scalar of every token before "
        "steering, on prompts of the length it was trained on and of others",
        f"{colours.answer_name}: grows with β, {colours.foil_name} with a dash: shrinks; "
        "one colour scale for all",
    ]
    page = sheet(f"{model} · trained on {task}", lines, panels, 3.2, width, stacked=2.6)
    for axes, one, total, leads in zip(page.axes, shown, page.widths, page.leads, strict=True):
        names = token_names(one.prompt, one.positions, style.token_label)
        title = style.fit(visible(one.title), total - 0.5, style.SMALL)
        y_label = "layer" if leads else ""
        how: dict[str, Any] = {"title": title, "y_label": y_label, "room": total - BESIDE}
        image = draw_map(axes, one.scalars[0], names, limit, **how)
        if row := one.metrics:
            reached = f"E₀ {number(row.E_0, 2)} (unsteered {number(row.E_0_unsteered, 2)})"
            axes.set_xlabel(style.fit(reached, total - 0.5, style.FONT_SIZE))
    draw_bar(image, page.axes[-1], "scalar")
    return page.canvas
