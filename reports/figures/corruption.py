"""Patching under every corruption and direction: how well scores steer, and how far they agree."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.agreement import matrix_of
from reports.figures.marks import draw_numbers, looks_of_names
from reports.figures.panels import Panel, name_rows, sheet
from reports.fronts import points
from reports.load import Results, of_pair
from reports.palette import Look
from reports.text import number
from tasks.errors import UserInputError

COLUMNS = (
    *("cell", "method", "label", "corruption", "direction", "beta_star"),
    *("E_0", "F", "E_0_unsteered"),
)
BARS = 0.9
"""Inches: the least room of bars beside their names."""


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a method, corruption and direction: cell, method, label, corruption, direction,
    beta_star, and E_0 and F on test at beta*.

    Raises UserInputError where patching was done under fewer than two of them.
    """
    patched = {
        record.id: record
        for record in results.of(model, task)
        if {"corruption", "direction"} <= record.settings.get("method", {}).keys()
    }
    found = points(results, model, task)
    found = found[(found["split"] == "test") & found["cell"].isin(patched)]
    for name in ("corruption", "direction"):
        found[name] = [patched[cell].settings["method"][name] for cell in found["cell"]]
    betas = [patched[cell].beta for cell in found["cell"]]
    found["beta_star"] = [one.star if one else None for one in betas]
    found = found[[*COLUMNS]]
    if found.groupby(["corruption", "direction"]).ngroups < 2:
        raise UserInputError(
            f"{results.store.directory} has patching under one corruption at most on {model} · "
            f"{task}; `corruption: [counterfactual, zero, mean]` of a method makes more."
        )
    return found.sort_values(["method", "corruption", "direction"], kind="stable")


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return E_0 and F on test beside Kendall's tau between all of them."""
    found = data(results, model=model, task=task)
    names = [f"{row.corruption}, {row.direction}" for row in found.itertuples()]
    lines = ["scores steered at ±β*, on test prompts; dotted: the unsteered model; τ of raw scores"]
    room = max(style.width_of(name, style.SMALL) for name in names)
    square = 0.34 * len(names) + 0.6
    panels = [Panel(room + 1.9, 2.9), Panel(1.9, 1.3), Panel(square, min(square, 2.0))]
    height = max(2.4, 0.26 * len(names)) + 0.6
    page = sheet(f"{model} · {task}", lines, panels, height, width)
    bars, faithful, agree = page.axes
    look = looks_of_names(results, found["method"])
    _draw_bars(bars, found, "E_0", "E₀ on test", look)
    _draw_bars(faithful, found, "F", "F on test (nats)", look)
    bars.axvline(found["E_0_unsteered"].mean(), color=style.MUTED, linestyle=":", linewidth=1)
    for axes, total, leads in zip(page.axes, page.widths, page.leads, strict=True):
        shown = [style.fit(name, total - BARS, style.SMALL) if leads else "" for name in names]
        name_rows(axes, shown)
    agree.set_xticks([])
    agree.set_xlabel("τ, in the same order")
    page.legend()
    stored = results.agreement
    stored = stored[(stored["model"] == model) & (stored["task"] == task)]
    taus = matrix_of(stored, list(found["label"]))
    np.fill_diagonal(taus, 1.0)
    texts = np.vectorize(lambda tau: number(tau, 1) if tau == tau else " ", otypes=[object])(taus)
    draw_numbers(agree, taus, texts, bar="")
    return page.canvas


def _draw_bars(axes: Axes, found: DataFrame, name: str, label: str, look: dict[str, Look]) -> None:
    for method, how in look.items():
        own = (found["method"] == method).to_numpy()
        text = style.drawable(method)
        values = found[name][own]
        axes.barh(np.flatnonzero(own), values, color=how.colour, height=0.62, label=text)
    axes.set_xlabel(label)
