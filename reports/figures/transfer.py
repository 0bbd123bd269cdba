"""Dynamic scalars trained on one task or on a mixture, tested on every task.

After Fig. 6 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import palette, style
from reports.figures.marks import draw_numbers
from reports.figures.panels import canvas_of
from reports.load import Results, judged, of_part, plain_name
from reports.statistics import AT_MOST_0, t_interval
from reports.text import interval as interval_text
from reports.text import number
from tasks.errors import UserInputError
from tasks.text import visible

METHOD = "dyn_scalar"
UNSTEERED = "(unsteered)"


def scores(results: Results) -> DataFrame:
    """Return a row a cell and task that it was tested on: cell, trained_on, tested_on, E_0,
    E_0_unsteered.

    Raises UserInputError where no DynScalar was taken to other tasks.
    """
    rows = [
        {
            "cell": record.id,
            "trained_on": record.task,
            "tested_on": record.task if row.split == "test" else row.split,
            "E_0": row.E_0,
            "E_0_unsteered": row.E_0_unsteered,
        }
        for record in results.records
        if plain_name(record.method) == METHOD and record.settings.get("transfer")
        for row in judged(record)
        if row.split not in ("train", "shifted")
    ]
    if not rows:
        raise UserInputError(
            f"{results.store.directory}: no {METHOD} was taken to other tasks; `transfer: [ioi]` "
            "does that."
        )
    return DataFrame(rows)


@of_part
def data(results: Results) -> DataFrame:
    """Return a row a pair of tasks (trained on `task` alone, if given), means over refits with 95 %
    intervals, of one model.

    Columns: trained_on, tested_on, n_cells, E_0, low, high, E_0_unsteered, gain (the share of the
    unsteered model's E_0 that is made up for: 1 where every prompt flips both ways).
    """
    models = list(dict.fromkeys(name for name, _ in results.pairs()))
    if len(models) != 1:
        raise UserInputError(f"say which model: {', '.join(models)}")
    found = scores(results)
    # what was tested on from elsewhere: a mixture itself is not
    tested_on = set(found[found["trained_on"] != found["tested_on"]]["tested_on"])
    rows = []
    for (trained, tested), group in found.groupby(["trained_on", "tested_on"], sort=False):
        if tested not in tested_on:
            continue
        interval = t_interval(group["E_0"].tolist(), AT_MOST_0)
        unsteered = float(group["E_0_unsteered"].mean())
        rows.append(
            {
                "trained_on": trained,
                "tested_on": tested,
                "n_cells": interval.n,
                "E_0": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "E_0_unsteered": unsteered,
                "gain": 1 - interval.mean / unsteered if unsteered else float("nan"),
            }
        )
    return DataFrame(rows)


@of_part
@style.drawing
def figure(results: Results, width: float | None = None) -> Figure:
    """Return the matrix of E_0 on test prompts, a row a task that was trained on."""
    found = data(results)
    trained, tested = (list(dict.fromkeys(found[name])) for name in ("trained_on", "tested_on"))
    gains = np.full((len(trained) + 1, len(tested)), np.nan)
    gains[0] = 0.0
    numbers, intervals = np.full((2, *gains.shape), "", dtype=object)
    unsteered = found.groupby("tested_on")["E_0_unsteered"].mean()
    numbers[0] = [number(unsteered[task], 2) for task in tested]
    for row in found.itertuples():
        at = trained.index(row.trained_on) + 1, tested.index(row.tested_on)
        gains[at], numbers[at] = row.gain, number(row.E_0, 2)
        intervals[at] = interval_text(row.low, row.high, 2) if np.isfinite(row.low) else ""
    colours = palette.current()
    lines = [
        f"{METHOD}: E₀ on test prompts, with the 95 % interval over refits",
        f"colour: the share of the unsteered E₀ made up for ({colours.answer_name}), or lost "
        f"({colours.foil_name})",
    ]
    names = [style.drawable(visible(name)) for name in (UNSTEERED, *trained)]
    room = max(style.width_of(name, style.SMALL) for name in names)
    total = max(5.2, 1.5 * len(tested) + room + 1.6) if width is None else width
    canvas = canvas_of(total, 0.55 * len(names) + 1.0, results.pairs()[0][0], lines)
    axes = canvas.add_subplot()
    # a mixture's name is broken after its parts
    axes.set_yticks(
        range(len(names)), ["\n".join(style.wrap(n, total / 3, style.SMALL)) for n in names]
    )
    slanted: dict[str, Any] = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
    shown = [style.drawable(visible(name)) for name in tested]
    axes.set_xticks(range(len(tested)), shown, **(slanted if len(shown) > 4 else {}))
    axes.set(xlabel="tested on", ylabel="trained on")
    draw_numbers(axes, gains, numbers, intervals, "share made up for")
    return canvas
