"""Dynamic scalars on prompts of lengths that they were not trained on: the scalars on the tokens.

After Fig. 5 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bench.store.cells import Cell
from bench.store.records import CellRecord, MetricRow, PromptRecord
from reports import palette, style
from reports.figures.panels import Panel, sheet
from reports.figures.parts import cells_of, draw_bar, draw_map, limit_of, token_names
from reports.load import Results
from reports.text import number, visible
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

METHOD = "dyn_scalar"
SCALARS = "transfer.{}.scalars"


@dataclass(frozen=True)
class Shown:
    """One prompt's scalars, (place, layer, position), and how its split is steered."""

    title: str
    split: str
    prompt: PromptRecord
    positions: list[int]
    scalars: NDArray[Any]


def _shown(results: Results, model: str, task: str) -> tuple[Cell, list[Shown]]:
    """The first train prompt, and the first test prompt of every task that it was taken to."""
    records = cells_of(results, model, task, METHOD, "The figure of dynamic scalars")
    taken = [record for record in records if record.settings.get("transfer")]
    if not taken:
        raise UserInputError(
            f"{results.store.directory}: {METHOD} on {model} · {task} was taken to no other task; "
            "`transfer: [ioi]` does that."
        )
    cell = results.cell(taken[0].id)
    record, tensors = cell.record, cell.tensors
    assert record.grid is not None
    own = Shown(
        "trained on this prompt",
        "train",
        record.prompts["train"][0],
        list(record.grid.positions),
        tensors["prompt_scores"][0],
    )
    others = [
        Shown(
            f"taken to {split}",
            split,
            record.prompts[split][0],
            [int(position) for position in tensors[f"transfer.{split}.positions"]],
            tensors[SCALARS.format(split)][0],
        )
        for split in record.prompts
        if SCALARS.format(split) in tensors
    ]
    return cell, [own, *others]


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a point of every prompt shown.

    Columns: cell, split, place, layer, position, token, alpha.
    """
    from pandas import DataFrame

    cell, shown = _shown(results, *results.one(model, task))
    assert cell.record.grid is not None
    return DataFrame(
        [
            {
                "cell": cell.record.id,
                "split": one.split,
                "place": place.label,
                "layer": layer,
                "position": position,
                "token": one.prompt.tokens[position],
                "alpha": float(one.scalars[row, layer, column]),
            }
            for one in shown
            for row, place in enumerate(cell.record.grid.places)
            for layer in range(cell.record.grid.n_layers)
            for column, position in enumerate(one.positions)
        ]
    )


def effectiveness(
    results: Results, *, model: str | None = None, task: str | None = None
) -> "DataFrame":
    """Return a row a prompt shown: cell, split, E_0 and E_0_unsteered of its split.

    Errors as `data`.
    """
    from pandas import DataFrame

    cell, shown = _shown(results, *results.one(model, task))
    rows = [(one.split, _metrics(cell.record, one.split)) for one in shown]
    return DataFrame(
        [
            {
                "cell": cell.record.id,
                "split": split,
                "E_0": None if row is None else row.E_0,
                "E_0_unsteered": None if row is None else row.E_0_unsteered,
            }
            for split, row in rows
        ]
    )


def figure(
    results: Results, *, model: str | None = None, task: str | None = None,
    width: float | None = None,
) -> "Figure":  # fmt: skip
    """Return a map of scalars over layers and tokens for each prompt; of several sites the first.

    Raises UserInputError where no DynScalar was taken to other tasks.
    """
    model, task = results.one(model, task)
    cell, shown = _shown(results, model, task)
    record = cell.record
    assert record.grid is not None
    limit = limit_of(*(one.scalars for one in shown))
    tokens = [len(one.positions) for one in shown]
    panels = [Panel(max(2.0, 0.2 * count + 0.6), max(1.6, 0.12 * count + 0.7)) for count in tokens]
    colours = palette.current()
    lines = [
        f"{METHOD} at {record.grid.places[0].label}: the scalar of every token before steering, on "
        "prompts of the length it was trained on and of others",
        f"{colours.answer_name}: grows with β, {colours.foil_name} with a dash: shrinks; "
        "one colour scale for all",
    ]
    with style.context():
        page = sheet(f"{model} · trained on {task}", lines, panels, 3.2, width, stacked=2.6)
        for index, one in enumerate(shown):
            room = page.widths[index] - 0.5
            image = draw_map(
                page.axes[index],
                one.scalars[0],
                token_names(one.prompt, one.positions),
                limit,
                title=style.fit(visible(one.title), room, style.FONT_SIZE),
                x_label=style.fit(_steered(record, one.split), room, style.FONT_SIZE),
                y_label="layer" if page.leads[index] else "",
            )
        draw_bar(image, page.axes[-1], "scalar")
        return style.literal(page.canvas)


def _steered(record: CellRecord, split: str) -> str:
    row = _metrics(record, split)
    if row is None:
        return ""
    return f"E₀ {number(row.E_0, 2)} (unsteered {number(row.E_0_unsteered, 2)})"


def _metrics(record: CellRecord, split: str) -> MetricRow | None:
    return next((row for row in record.metrics if row.split == split), None)
