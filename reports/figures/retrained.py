"""Scalars trained anew at each method's strongest points, beside matched and random supports."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import draw_point, look_of
from reports.figures.panels import canvas_of, legend, name_rows
from reports.load import Results, of_pair
from reports.statistics import interval
from reports.tables.retrained import (
    LAYERS,
    POSITIONS,
    RANDOM,
    SUPPORTS,
    numbers_of_points,
    outcomes_of_support,
    table,
)
from reports.text import distinct, number
from tasks.errors import UserInputError

ROW, FOOT = 0.24, 0.75
MARKS = {POSITIONS: "|", LAYERS: "x"}


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a support and draw: method, k, support, draw, E_0 and, of the strongest points,
    95 % over prompts (low, high). Beside them the `share` that the strongest points make up for.
    Random supports stand under the control's own name.

    Raises UserInputError where no cell stores it.
    """
    ks = numbers_of_points(results, model, task)
    if not ks:
        raise UserInputError(
            f"{model} · {task} stores no scalars trained anew; a matrix with "
            "`retrained: {k: [16]}` trains them"
        )
    rows = []
    for k in ks:
        for support in SUPPORTS:
            for label, one in outcomes_of_support(results, model, task, k, support).items():
                row = {"method": label, "k": k, "support": "strongest", "draw": 0, "E_0": one.mean}
                if one.control:
                    row |= {"method": label.partition("[of=")[2][:-1] or label, "support": support}
                    draws = zip(one.records, one.per_cell, strict=True)
                    rows += [row | {"draw": of.draw, "E_0": e_0} for of, e_0 in draws]
                elif support == RANDOM:
                    ends = interval(one.per_prompt, one.weights)
                    rows.append(row | dict(zip(("low", "high"), ends, strict=True)))
    frame = DataFrame(rows, columns=["method", "k", "support", "draw", "E_0", "low", "high"])
    beside = table(results, model=model, task=task)[["method", "k", "share", "E_0_unsteered"]]
    return frame.merge(beside, on=["method", "k"], how="left")


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float = style.PAGE) -> Figure:
    """Return a row a method and k: E_0 at its strongest points (95 % over prompts), and at others.

    The band is where random supports are, from the worst draw to the best; the dashed line the
    unsteered model. Errors as `data`.
    """
    frame = data(results, model=model, task=task)
    board = table(results, model=model, task=task)
    several = frame["k"].nunique() > 1
    keys = list(zip(board["method"], board["k"], strict=True))
    names = distinct([method for method, _ in keys], 40 if width > 5 else 24)
    names = [
        f"{name}, k = {k}" if several else name for name, (_, k) in zip(names, keys, strict=True)
    ]
    k = "/".join(map(str, sorted(set(frame["k"]))))
    lines = [
        f"scalars trained anew at k = {k} points alone, all at one price; first mark of a row: the "
        "method's strongest points, with 95 % over prompts"
    ]
    canvas = canvas_of(width, ROW * len(keys) + FOOT, f"{model} · {task}", lines)
    axes = canvas.add_subplot()
    shares = [number(value, 2) for value in board["share"]]
    name_rows(axes, list(map(style.drawable, names)), shares)
    axes.tick_params(labelsize=style.letters(width))
    for place, (method, of_k) in enumerate(keys):
        own = frame[(frame["method"] == method) & (frame["k"] == of_k)]
        _draw(axes, results, place, str(method), own)
        chance = frame[(frame["support"] == RANDOM) & (frame["k"] == of_k)]["E_0"]
        if len(chance):
            label = f"random supports: {len(chance)} draws" if not place else None
            ends = [place - 0.5, place + 0.5]
            axes.fill_betweenx(
                ends, chance.min(), chance.max(), color=style.FAINT, alpha=0.6, linewidth=0,
                label=label,
            )  # fmt: skip
    unsteered = float(np.mean(board["E_0_unsteered"].astype(float)))
    axes.axvline(unsteered, color=style.MUTED, linestyle="--", linewidth=0.9, label="unsteered")
    low = max(min(frame["E_0"].min(), frame["low"].min(), unsteered), 2.5 * unsteered)
    axes.set_xlim(1.05 * low, -0.03 * low)
    axes.set_xlabel("E₀ on test; right: share of the unsteered E₀ made up for",
                    fontsize=style.letters(width))  # fmt: skip
    legend(canvas, axes)
    return canvas


def _draw(axes: Axes, results: Results, place: int, method: str, own: DataFrame) -> None:
    look = look_of(results, method)
    for kind, mark in MARKS.items():
        drawn = own[own["support"] == kind]["E_0"]
        how: dict[str, Any] = {"linestyle": "none", "color": style.INK, "markersize": 5}
        label = f"{kind}, a mark a draw" if not place else None
        axes.plot(drawn, [place] * len(drawn), marker=mark, label=label, **how)
    (strongest,) = own[own["support"] == "strongest"].to_dict("records")
    axes.hlines(place, strongest["low"], strongest["high"], color=look.colour, linewidth=2.4,
                alpha=0.7)  # fmt: skip
    draw_point(axes, strongest["E_0"], place, look)
