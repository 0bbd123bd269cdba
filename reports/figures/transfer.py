"""Dynamic scalars trained on one task or on a mixture, tested on every task.

After Fig. 6 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.store.records import CellRecord
from reports import palette, style
from reports.figures.panels import canvas_of
from reports.figures.parts import draw_bar
from reports.intervals import AT_MOST_0, t_interval
from reports.load import Results, plain_name
from reports.text import number, visible
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

METHOD = "dyn_scalar"
UNSTEERED = "(unsteered)"


def scores(results: Results, model: str, task: str | None = None) -> "DataFrame":
    """Return a row a cell and task that it was tested on: cell, trained_on, tested_on, E_0,
    E_0_unsteered.

    Raises UserInputError where no DynScalar was taken to other tasks.
    """
    from pandas import DataFrame

    records = [
        record
        for record in results.matching(model, task)
        if plain_name(record.method) == METHOD and record.status == "done"
    ]
    taken = [record for record in records if record.settings.get("transfer")]
    if not taken:
        raise UserInputError(
            f"{results.store.directory}: no {METHOD} on {model} was taken to other tasks; "
            "`transfer: [ioi]` does that."
        )
    return DataFrame([row for record in taken for row in _rows(record)])


def _rows(record: CellRecord) -> list[dict[str, object]]:
    return [
        {
            "cell": record.id,
            "trained_on": record.task,
            "tested_on": record.task if row.split == "test" else row.split,
            "E_0": row.E_0,
            "E_0_unsteered": row.E_0_unsteered,
        }
        for row in record.metrics
        if row.split not in ("train", "shifted")
    ]


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a pair of tasks (trained on `task` alone, if given), means over refits with 95 %
    intervals.

    Columns: trained_on, tested_on, n_cells, E_0, low, high, E_0_unsteered, gain (the share of the
    unsteered model's E_0 that is made up for: 1 where every prompt flips both ways).
    """
    from pandas import DataFrame

    found = scores(results, _model(results, model), task)
    columns = _columns(found)
    rows = []
    for (trained, tested), group in found.groupby(["trained_on", "tested_on"], sort=False):
        if tested not in columns:
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


def _model(results: Results, model: str | None) -> str:
    models = list(dict.fromkeys(name for name, _ in results.pairs()))
    if model is None and len(models) == 1:
        return models[0]
    if model is None:
        raise UserInputError(f"say which model: {', '.join(models)}")
    return model


def _columns(found: "DataFrame") -> list[str]:
    """What was tested on from elsewhere: a mixture itself is not."""
    away = found[found["trained_on"] != found["tested_on"]]
    return list(dict.fromkeys(away["tested_on"]))


def figure(
    results: Results, *, model: str | None = None, task: str | None = None,
    width: float | None = None,
) -> "Figure":  # fmt: skip
    """Return the matrix of E_0 on test prompts, a row a task that was trained on."""
    model = _model(results, model)
    found = data(results, model=model, task=task)
    trained = list(dict.fromkeys(found["trained_on"]))
    tested = list(dict.fromkeys(found["tested_on"]))
    colours = palette.current()
    lines = [
        f"{METHOD}: E₀ on test prompts, with the 95 % interval over refits",
        f"colour: the share of the unsteered E₀ made up for ({colours.answer_name}), or lost "
        f"({colours.foil_name})",
    ]
    names = [style.drawable(visible(name)) for name in (UNSTEERED, *trained)]
    room = max(style.width_of(name, style.SMALL) for name in names)
    total = max(5.2, 1.5 * len(tested) + room + 1.6) if width is None else width
    rows = [_broken(name, total / 3) for name in names]
    with style.context():
        canvas = canvas_of(total, 0.55 * len(rows) + 1.0, model, lines)
        _draw(canvas.subplots(), found, trained, tested, rows)
        return style.literal(canvas)


def _broken(name: str, room: float) -> str:
    """A name in lines of at most `room` inches; a mixture's after its parts."""
    return "\n".join(style.wrap(name, room, style.SMALL))


def _draw(
    axes: "Axes", found: "DataFrame", trained: list[str], tested: list[str], rows: list[str]
) -> None:
    gains = np.full((len(trained) + 1, len(tested)), np.nan)
    for row in found.itertuples():
        at = trained.index(row.trained_on) + 1, tested.index(row.tested_on)
        gains[at] = row.gain
        gains[0, at[1]] = 0.0
        ink = "white" if abs(row.gain) > 0.6 else style.INK
        where: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(at[1], at[0] - 0.14, number(row.E_0, 2), **where)
        if np.isfinite(row.low):
            interval = f"[{number(row.low, 2)}, {number(row.high, 2)}]"
            axes.text(at[1], at[0] + 0.22, interval, fontsize=style.TINY, **where)
    for column, task in enumerate(tested):
        unsteered = found[found["tested_on"] == task]["E_0_unsteered"].mean()
        axes.text(column, 0, number(unsteered, 2), ha="center", va="center")
    image = axes.imshow(
        np.ma.masked_invalid(gains), cmap=style.diverging(), vmin=-1, vmax=1, aspect="auto"
    )
    names = [style.drawable(visible(name)) for name in tested]
    turned: dict[str, Any] = (
        {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if len(names) > 4 else {}
    )
    axes.set_xticks(range(len(tested)), names, **turned)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("tested on")
    axes.set_ylabel("trained on")
    axes.tick_params(length=0)
    axes.axhline(0.5, color="white", linewidth=3)
    draw_bar(image, axes, "share made up for")
