"""Activation scalars of one prompt: where answer and foil are scaled up or down, and its sweep.

After Fig. 3 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import Any

from matplotlib.figure import Figure
from pandas import DataFrame

from bench.store.cells import Cell
from reports import style
from reports.figures.dynamic import points_of
from reports.figures.marks import BESIDE, draw_bar, draw_map, key, limit_of
from reports.figures.panels import Panel, sheet
from reports.figures.sweep import curves_of, draw_sweep
from reports.load import Results, finished, of_pair
from reports.scores import maps_of
from tasks.errors import UserInputError

METHOD = "activ_scalar"


def _shown(results: Results, model: str, task: str) -> tuple[Cell, int]:
    """The first cell that was trained on a single prompt, and how many there are."""
    records = finished(results.of(model, task), METHOD)
    single = [record for record in records if len(record.prompts.get("train", [])) == 1]
    if not single:
        raise UserInputError(
            f"{results.store.directory}: no cell of {METHOD} on {model} · {task} was trained on a "
            "single prompt; `prompts: {train: 1}` makes some."
        )
    return results.cell(single[0].id), len(single)


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a point: cell, place, layer, position, token, alpha (NaN where excluded)."""
    cell, _ = _shown(results, model, task)
    grid, prompt = cell.record.grid, cell.record.prompts["train"][0]
    assert grid is not None
    points = points_of(cell.record, prompt, grid.positions, cell.tensors["scores"])
    return DataFrame([{"cell": cell.record.id, **point} for point in points])


@of_pair
def sweep(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a strength of the sweep: cell, split, beta, logit_answer, logit_foil.

    Errors as `data`; no rows where the cell stores no sweep of its train prompt.
    """
    cell, _ = _shown(results, model, task)
    columns = {"cell": cell.record.id, "split": "train"}
    curves = curves_of(cell, "train", "logit")
    if curves is None:
        return DataFrame(columns=[*columns, "beta", "logit_answer", "logit_foil"])
    beta, answer, foil = curves
    return DataFrame({**columns, "beta": beta, "logit_answer": answer, "logit_foil": foil})


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return the map of the scalars over layers and tokens beside the sweep of the train prompt.

    Raises UserInputError where no ActivScalar was trained on a single prompt.
    """
    cell, n_cells = _shown(results, model, task)
    record = cell.record
    prompt = record.prompts["train"][0]
    maps = maps_of(record, cell.tensors["scores"], style.token_label)
    limit = limit_of(cell.tensors["scores"])
    first = f" (the first of {n_cells})" if n_cells > 1 else ""
    lines = [
        f"prompt{first}: {prompt.clean} · answer{prompt.answer}, foil{prompt.foil}",
        f"{METHOD} trained on this prompt: {key()}; circles where answer and foil cross",
    ]
    panels = [Panel(3.7, 2.6)] * len(maps) + [Panel(3.0, 2.4)]
    page = sheet(f"{model} · {task}", lines, panels, 3.3, width, stacked=2.7)
    for axes, one, width in zip(page.axes, maps, page.widths, strict=False):
        how: dict[str, Any] = {"title": one.title, "room": width - BESIDE}
        image = draw_map(axes, one.values, one.columns, limit, **how)
    draw_bar(image, page.axes[len(maps) - 1], "scalar")
    draw_sweep(page.axes[-1], cell, "train", "logit")
    return page.canvas
